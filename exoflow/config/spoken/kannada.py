"""Kannada. Numbers as in the CLDR's rules: what is followed by a smaller number ends in -ನೂರ, ಸಾವಿರದ, ಲಕ್ಷದ, ಕೋಟಿಯ. Years
from 1100 to 1999 begin with ಸಾವಿರದ. The day comes before the month: behind it, it would run into the year (ಇಪ್ಪತ್ತು ಸಾವಿರದ …).

A negative number begins with ಮೈನಸ್, as it is spoken: ಋಣ also means a debt.
"""

from exoflow.config.spoken.table import Counted, Forms, Table

_BELOW_TWENTY = (
    *("ಸೊನ್ನೆ", "ಒಂದು", "ಎರಡು", "ಮೂರು", "ನಾಲ್ಕು", "ಐದು", "ಆರು", "ಏಳು", "ಎಂಟು", "ಒಂಬತ್ತು"),
    *("ಹತ್ತು", "ಹನ್ನೊಂದು", "ಹನ್ನೆರಡು", "ಹದಿಮೂರು", "ಹದಿನಾಲ್ಕು", "ಹದಿನೈದು", "ಹದಿನಾರು", "ಹದಿನೇಳು", "ಹದಿನೆಂಟು", "ಹತ್ತೊಂಬತ್ತು"),
)
_TENS = ("ಇಪ್ಪತ್ತ", "ಮೂವತ್ತ", "ನಲವತ್ತ", "ಐವತ್ತ", "ಅರವತ್ತ", "ಎಪ್ಪತ್ತ", "ಎಂಬತ್ತ", "ತೊಂಬತ್ತ")
# what the tens end in: the sign of the unit's first vowel in place of their own
_ENDS = ("ು", "ೊಂದು", "ೆರಡು", "ಮೂರು", "ನಾಲ್ಕು", "ೈದು", "ಾರು", "ೇಳು", "ೆಂಟು", "ೊಂಬತ್ತು")
_HUNDREDS = ("ನೂರ", "ಇನ್ನೂರ", "ಮುನ್ನೂರ", "ನಾನೂರ", "ಐನೂರ", "ಆರುನೂರ", "ಏಳುನೂರ", "ಎಂಟುನೂರ", "ಒಂಬೈನೂರ")
_BELOW_100 = (*_BELOW_TWENTY, *(ten + end for ten in _TENS for end in _ENDS))

KANNADA = Table(
    below_100=_BELOW_100,
    hundred=Counted(Forms("{}|ನೂರು", "{}|ನೂರ"), {n: Forms(f"{word}ು", word) for n, word in enumerate(_HUNDREDS, 1)}),
    thousand=Counted(Forms("{}|ಸಾವಿರ", "{}|ಸಾವಿರದ")),
    lakh=Counted(Forms("{}|ಲಕ್ಷ", "{}|ಲಕ್ಷದ")),
    crore=Counted(Forms("{}|ಕೋಟಿ", "{}|ಕೋಟಿಯ")),
    minus="ಮೈನಸ್",
    star="ಸ್ಟಾರ್",
    hash="ಹ್ಯಾಶ್",
    rupee=Counted(Forms("{}|ರೂಪಾಯಿ")),
    paisa=Counted(Forms("{}|ಪೈಸೆ")),
    days=_BELOW_100[1:32],
    months=(
        *("ಜನವರಿ", "ಫೆಬ್ರವರಿ", "ಮಾರ್ಚ್", "ಏಪ್ರಿಲ್", "ಮೇ", "ಜೂನ್"),
        *("ಜುಲೈ", "ಆಗಸ್ಟ್", "ಸೆಪ್ಟೆಂಬರ್", "ಅಕ್ಟೋಬರ್", "ನವೆಂಬರ್", "ಡಿಸೆಂಬರ್"),
    ),
    century=Counted(Forms("{}|ನೂರು"), {n: Forms(f"ಸಾವಿರದ|{word}ು", f"ಸಾವಿರದ|{word}") for n, word in enumerate(_HUNDREDS, 11)}),
    day_parts={4: "ಬೆಳಗ್ಗೆ", 12: "ಮಧ್ಯಾಹ್ನ", 16: "ಸಂಜೆ", 20: "ರಾತ್ರಿ"},
    hour=Counted(Forms("{}|ಗಂಟೆ")),
    minute=Counted(Forms("{}|ನಿಮಿಷ")),
)
