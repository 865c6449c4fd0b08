"""English as it is spoken in India: lakh and crore, the day before the month."""

from exoflow.config.spoken.table import Table

_BELOW_TWENTY = {
    "zero": "",
    "one": "first",
    "two": "second",
    "three": "third",
    "four": "fourth",
    "five": "fifth",
    "six": "sixth",
    "seven": "seventh",
    "eight": "eighth",
    "nine": "ninth",
    "ten": "tenth",
    "eleven": "eleventh",
    "twelve": "twelfth",
    "thirteen": "thirteenth",
    "fourteen": "fourteenth",
    "fifteen": "fifteenth",
    "sixteen": "sixteenth",
    "seventeen": "seventeenth",
    "eighteen": "eighteenth",
    "nineteen": "nineteenth",
}
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_CARDINALS = tuple(_BELOW_TWENTY)
_ORDINALS = tuple(_BELOW_TWENTY.values())[1:]

ENGLISH = Table(
    below_100=(*_CARDINALS, *(f"{ten} {one}".removesuffix(" zero") for ten in _TENS for one in _CARDINALS[:10])),
    hundred="hundred",
    thousand="thousand",
    lakh="lakh",
    crore="crore",
    minus="minus",
    star="star",
    hash="hash",
    rupee="rupee",
    rupees="rupees",
    paisa="paisa",
    paise="paise",
    joint="and",
    days=(
        *_ORDINALS,
        "twentieth",
        *(f"twenty {one}" for one in _ORDINALS[:9]),
        "thirtieth",
        "thirty first",
    ),
    months=(
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
    year_by_hundreds=range(1100, 2000),
    am="A M",
    pm="P M",
    oclock="o'clock",
    oh="oh",
)
