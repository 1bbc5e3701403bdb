"""Holidays of years that are not built in, from a file that the operator keeps.

2027:
  - {first: 2027-01-01, last: 2027-01-03}
  - {first: 2027-02-06, last: 2027-02-12, worked: [2027-01-31]}
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec
import yaml

from tokenschain.core.pricing.calendar import HOLIDAYS, DayOff, Holidays
from tokenschain.infra.config import SettingsError

FILE_BYTES_MAX = 1_000_000


class _StrictDayOff(DayOff, frozen=True, forbid_unknown_fields=True):
    """A row of the file; a misspelt name in it is an error and not a day that is worked."""


@cache
def known(path: Path | None) -> Holidays:
    """Holidays by year: those that are built in, and those of the file, which win.

    Raises:
        SettingsError: the file cannot be read, or says what cannot be.
    """
    if path is None:
        return HOLIDAYS
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(FILE_BYTES_MAX)
        found = msgspec.convert(yaml.safe_load(text), dict[int, tuple[_StrictDayOff, ...]])
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise SettingsError(f"control.holidays_file {path}: {said}") from None
    for year, offs in found.items():
        for off in offs:
            if not off.first <= off.last or off.first.year > year or off.last.year < year:
                raise SettingsError(
                    f"control.holidays_file {path}: {year}: from {off.first} to {off.last}"
                )
    return {**HOLIDAYS, **found}
