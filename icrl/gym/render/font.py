"""Letters of 5 x 7 dots, the shapes of old character displays, so that pictures need no font files."""

import functools

import numpy as np

HEIGHT = 8  # seven rows and one for what hangs below the line
BLANK = 3  # columns of a space, and of a character that is not drawn below

# Five columns of eight dots for each character, two hexadecimal digits a column, the lowest bit at the top.
_COLUMNS = """
A7E1111117E B7F49494936 C3E41414122 D7F4141221C E7F49494941 F7F09090901 G3E4149497A H7F0808087F I00417F4100 J2040413F01
K7F08142241 L7F40404040 M7F020C027F N7F0408107F O3E4141413E P7F09090906 Q3E4151215E R7F09192946 S4649494931 T01017F0101
U3F4040403F V1F2040201F W3F4038403F X6314081463 Y0708700807 Z6151494543 a2054545478 b7F48444438 c3844444420 d384444487F
e3854545418 f087E090102 g18A4A4A47C h7F08040478 i00447D4000 j4080847D00 k7F10284400 l00417F4000 m7C04180478 n7C08040478
o3844444438 pFC24242418 q18242418FC r7C08040408 s4854545420 t043F444020 u3C4040207C v1C2040201C w3C4030403C x4428102844
y1CA0A0A07C z4464544C44 03E5149453E 100427F4000 24261514946 32141454B31 41814127F10 52745454539 63C4A494930 70171090503
83649494936 9064949291E .0060600000 ,0080600000 -0808080808 +08083E0808 /2010080402 :0036360000 =1414141414 (001C224100
)0041221C00 %2313086462 *14083E0814 ?0201510906 >4122140800 <0814224100
"""


def _dots(columns: str) -> np.ndarray:
    """One character as bool [8, width], without empty columns at its sides."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(columns), np.uint8)[None], axis=0, bitorder="little") > 0
    used = np.flatnonzero(bits.any(axis=0))
    return bits[:, used[0] : used[-1] + 1]


_GLYPHS = {entry[0]: _dots(entry[1:]) for entry in _COLUMNS.split()}


@functools.lru_cache(maxsize=1024)
def letters(text: str, scale: int = 1) -> np.ndarray:
    """``text`` as dots, bool [8 scale, width]."""
    pieces = []
    for character in text:
        pieces += [_GLYPHS.get(character, np.zeros((HEIGHT, BLANK), bool)), np.zeros((HEIGHT, 1), bool)]
    dots = np.concatenate(pieces[:-1], axis=1) if pieces else np.zeros((HEIGHT, 0), bool)
    return dots.repeat(scale, axis=0).repeat(scale, axis=1)
