"""English as it is spoken in India: lakh and crore, the day before the month."""

from exoflow.config.spoken.table import Counted, Forms, Table

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
    hundred=Counted(Forms("{}|hundred")),
    thousand=Counted(Forms("{}|thousand")),
    lakh=Counted(Forms("{}|lakh")),
    crore=Counted(Forms("{}|crore")),
    minus="minus",
    star="star",
    hash="hash",
    rupee=Counted(Forms("{}|rupees", "{}|rupees|and"), {1: Forms("{}|rupee", "{}|rupee|and")}),
    paisa=Counted(Forms("{}|paise"), {1: Forms("{}|paisa")}),
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
    century=Counted(Forms("{}|hundred", "{}")),  # nineteen | ninety eight
    day_parts={0: "A M", 12: "P M"},
    time_order=("hour", "minute", "part"),
    hour=Counted(Forms("{}|o'clock", "{}")),
    minute=Counted(Forms("{}"), {n: Forms("oh|{}") for n in range(1, 10)}),
)
