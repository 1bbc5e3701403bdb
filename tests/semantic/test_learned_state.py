"""What false-hit control has learned is there after a restart, and after an upgrade."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import msgspec
import pytest

from tests.semantic.test_matcher import matcher
from tokenschain.semantic import learned_state

EMBEDDER = "multilingual-e5-small"
# As the process of November 2026 wrote it: 160 labels of one group, with a limit of 5 %.
WRITTEN_2026_11 = zlib.decompress(
    base64.b85decode(
        "c-pO5YiJc$5KdD`)fQg_pRKi3R45^pB36s+wxX?7DQYV!QjE>5*K%)+CaGeiphZMPMbf4ZshX<zDkAlPh-9xD?ZZ`R"
        "B}KFrYeUrF-J58PuaLHTPB?SU!abgu#r-AToy?v&-+c4U%<4U{<bqgnact?4WJRKUQDRZa!iu6qL2PtES+XdR*i}|u"
        "R31A$w0YJ3qK}fX!m{|{(!yl*m7MKWUwY2v@ufR1b|3FqnYFLvJ~#QeXWh)<k7s?c;@aB>@+&>-*KgSKZJlSebp93?"
        "S}kYUbI!ATchkI)ZFN{f`>D?V3_LPBcN5y<KjQt&hoh~P{${ktZv2Q#JS**QjxRm<658YSW7BV~8GI}-Y@Gk*x-nBD"
        "7}7l2U4)@OX39^yo3~;OQ++<>PY|5X9{&0AZ;g*JbVHwdmphz+F${Th?g4W0`Fm)Ot^6A21!w%RpvSB(1JF^u0+0*L"
        "`d3w;4G)W7)Ab##M<;%dj%u#>)n}oZ{}%R)PLlw+&yX4~Lwkhm@biZKRXA`vI;uP2Q)|woKJT*_?GYeHM2=H0e$BAk"
        "C_jNl&I18Czb_-5chP4|3jn}BkRBxf81hEmLmNuYnaIP6HmrrH5?QWoFtdCy2u}Nr#QF)<5kA$JkDBW+mjG8|7+3|I"
        "jK0T*f{>}mc_hy0Gtbl0XpeV*9(Ol?7tjv+I<5+`%80*!{M6up?3BT$28>g4<|NuMDs{-h%4^P$(`b(X7+?GaYH-Yn"
        "9R5^Ut!UX{=RjIbyKsAN`wcpB%!Xl*OP#~=zvOGQN8l)GMQ#)fkl9xI=`V-JqOapT1c#N5ZM6~TktSD^;H+bMr3D>T"
        "5J+ajaJA|Q!7(OsII6Pf(9+7e{~CWV3=r~YKfQ*3Yhd`*hWD<%QH;Jvphq*yX{f_Y$aUEv=QEu<<>v_bNNXRQhE9GY"
        "S7aL`84=`4RB4H<upF%-r=AsO^x0*s%%HJ)8}5<T=_rPbIA-@k8{QHiC#pxKVVT`)!L$o^&;Wqfs5<9gs2!pKK^g)8"
        "(yR%n@zB?C9j}lz9{u2@71!QD)1$nOhMD)zU+RZ7Oi9iu;iQ8$1gx5cuB&OvR<Vv{5E?npz^6X{L)THmo9I|23SH|_"
        "L@{sY0ak}MEwAsmiv|FQ`84OMW$36jAK+&r*A6Fgj|?7(B2bD4qO_K!+{`(y<~odNr5RaJCl7K;c5uk4ExQ`%hQtYy"
        "lE_98=w^qU`HXJ%Qch%YnO0Qw2>DASD`oU#Y#-e0Q!?`a!PQhNLFweagUG9pRzB}nlIZJz*D_o?#L<Q_J7{N=wSyW}"
        "Nmj%}mV+RpdJKE~T_|c|a2%<Sm$Mn-By?24qge!Mn4GAPm01T-u3W~aRoLTyARcJ+=*W(>fS0QXBMTZ<t-nPusZ%m&"
        "Sg7?;28X7}l@TIM=qhsnqCjfHH`lu0L|z6F&j?)rv13)X544$;lE_Su&3%Esw<7Lz99Yem*A|+|1GQSo(Gx8nmE9b%"
        "@su-UT01Y#Xzu319%Wh?RflH9W}dIQPecPK>nCGx<!0X^Q9XjRCNA}q=9-38DRj+a88`bJfV!KL^vIVFpF9=-_N)8Y"
        "v!5BZLsLczj$E-3*A|MQvFK>7!%SA1sG3(Z8jw>Lmy#Y4ixTBJlorXT<y=jDM3gxd01|REtSVD$V>_?em1D>%dvIul"
        "HI)-}9ozv5nFhHO41&y!XE->JhM2X!dXF+Y5IwS;pCveE&Iw0#5OY|%lNKD$t}JamQQ3QrXU9ie+){mMt!M4+e5uN_"
        "-~Z!-;F$&A=h@Z$Hoo4laa`58+(Tzq=lu^}XHFg"
    )
)


def test_what_an_earlier_version_wrote_is_read_and_served_by(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    path.write_bytes(WRITTEN_2026_11)
    state = learned_state.read(path, EMBEDDER)
    assert state is not None
    made = matcher()
    made.restore(state)
    bound = made.error_bound_of("acme/shop/m")
    assert bound.threshold == pytest.approx(0.2583, abs=1e-4)
    assert bound.false_hit_rate_max == 0.05
    assert bound.false_hit_rate().estimate == pytest.approx(0.00896, abs=1e-5)
    assert (bound.exact_served, bound.served, bound.checked) == (691, 130, 6)
    assert any(preview.threshold is not None for preview in bound.previews)


def test_what_is_written_is_read_again_for_the_same_embedder_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "learned"
    assert learned_state.read(path, EMBEDDER) is None
    learned_state.write(path, EMBEDDER, b"state")
    learned_state.write(path, EMBEDDER, b"newer")
    assert learned_state.read(path, EMBEDDER) == b"newer"
    assert learned_state.read(path, "another") is None
    assert [each.name for each in path.parent.iterdir()] == ["learned"]


def test_a_torn_file_is_an_error_and_no_state(tmp_path: Path) -> None:
    path = tmp_path / "learned"
    path.write_bytes(WRITTEN_2026_11[:-40])
    with pytest.raises(msgspec.DecodeError):
        learned_state.read(path, EMBEDDER)
