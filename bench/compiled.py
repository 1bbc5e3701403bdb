"""Compiles three hot modules by Cython, to measure what that would gain (decision 14).

    python -m bench.compiled

The modules are the product's own, letter by letter; `bench/types` says of what C type their
counts are. A copy of the package is made in `bench/build/compiled`, where a shared library lies
beside each of them, which Python takes first. Nothing that is installed knows of it: whoever puts
that folder first on PYTHONPATH runs the compiled ones, tests and `bench.instructions` included.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
COMPILED = HERE / "build" / "compiled"
CYTHON = HERE / "build" / "cython" / "bin" / "cython"
MODULES = ("core/limits", "core/routing/selection", "gateway/quota/rate_headers")
"""Each may name the types of those before it."""
_DIRECTIVES = "annotation_typing=False,overflowcheck=True,cdivision=True"


def build() -> None:
    """Copy the package and compile the modules of it.

    Raises:
        subprocess.CalledProcessError: Cython or the compiler did not take one.
    """
    shutil.rmtree(COMPILED, ignore_errors=True)
    shutil.copytree(SOURCE, COMPILED, ignore=shutil.ignore_patterns("__pycache__"))
    places = [COMPILED / "tokenschain" / module for module in MODULES]
    for place in places:
        shutil.copy(HERE / "types" / f"{place.name}.pxd", place.with_suffix(".pxd"))
    for place in places:
        name = ".".join(place.relative_to(COMPILED).parts)
        code = place.with_suffix(".c")
        subprocess.run(
            [CYTHON, "-3", "-X", _DIRECTIVES, "--module-name", name, "-o", code,
             place.with_suffix(".py")],
            cwd=COMPILED, check=True,
        )  # fmt: skip
        library = place.with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))
        include = sysconfig.get_path("include")
        subprocess.run(
            ["gcc", "-O2", "-w", "-shared", "-fPIC", f"-I{include}", code, "-o", library],
            check=True,
        )
        code.unlink()


if __name__ == "__main__":
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"not compiled: {error}")
    print(f"compiled {', '.join(MODULES)} in {COMPILED}")
