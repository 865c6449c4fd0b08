"""Tamil. Tens, hundreds and thousands are one word with their count, and end in -த்து, -ற்று when a number follows: ஆயிரம், but
ஆயிரத்து ஐந்து. One of a thing is ஒரு.
"""

from exoflow.config.spoken.table import Counted, Forms, Table

_BELOW_TWENTY = (
    *("பூஜ்ஜியம்", "ஒன்று", "இரண்டு", "மூன்று", "நான்கு", "ஐந்து", "ஆறு", "ஏழு", "எட்டு", "ஒன்பது"),
    *("பத்து", "பதினொன்று", "பன்னிரண்டு", "பதிமூன்று", "பதினான்கு", "பதினைந்து", "பதினாறு", "பதினேழு", "பதினெட்டு", "பத்தொன்பது"),
)
_TENS = {
    "இருபது": "இருபத்து",
    "முப்பது": "முப்பத்து",
    "நாற்பது": "நாற்பத்து",
    "ஐம்பது": "ஐம்பத்து",
    "அறுபது": "அறுபத்து",
    "எழுபது": "எழுபத்து",
    "எண்பது": "எண்பத்து",
    "தொண்ணூறு": "தொண்ணூற்று",
}
_BELOW_100 = (
    *_BELOW_TWENTY,
    *(word for ten, more in _TENS.items() for word in (ten, *(f"{more} {one}" for one in _BELOW_TWENTY[1:10]))),
)
_HUNDREDS = ("நூறு", "இருநூறு", "முந்நூறு", "நானூறு", "ஐநூறு", "அறுநூறு", "எழுநூறு", "எண்ணூறு")
_UNIT_THOUSANDS = (
    *("ஓராயிரம்", "இரண்டாயிரம்", "மூன்றாயிரம்", "நான்காயிரம்", "ஐந்தாயிரம்"),
    *("ஆறாயிரம்", "ஏழாயிரம்", "எட்டாயிரம்", "ஒன்பதாயிரம்"),
)
_THOUSANDS = (
    *("ஆயிரம்", "இரண்டாயிரம்", "மூவாயிரம்", "நான்காயிரம்", "ஐயாயிரம்"),
    *("ஆறாயிரம்", "ஏழாயிரம்", "எட்டாயிரம்", "ஒன்பதாயிரம்", "பத்தாயிரம்"),
    *("பதினோராயிரம்", "பன்னிரண்டாயிரம்", "பதிமூன்றாயிரம்", "பதினான்காயிரம்", "பதினைந்தாயிரம்"),
    *("பதினாறாயிரம்", "பதினேழாயிரம்", "பதினெட்டாயிரம்", "பத்தொன்பதாயிரம்"),
    *(
        word
        for ten, more in _TENS.items()
        for word in (f"{ten.removesuffix('ு')}ாயிரம்", *(f"{more} {unit}" for unit in _UNIT_THOUSANDS))
    ),
)


def _before_more(word: str) -> str:
    return word.removesuffix("ம்") + "த்து" if word.endswith("ம்") else word.removesuffix("று") + "ற்று"


TAMIL = Table(
    below_100=_BELOW_100,
    counting={
        1: "ஒரு",
        11: "பதினொரு",
        **{n: f"{more} ஒரு" for n, more in zip(range(21, 100, 10), _TENS.values(), strict=True)},
    },
    hundred=Counted(
        Forms("{}|நூறு", "{}|நூற்று"),
        {
            **{n: Forms(word, _before_more(word)) for n, word in enumerate(_HUNDREDS, 1)},
            9: Forms("தொள்ளாயிரம்", "தொள்ளாயிரத்து"),
        },
    ),
    thousand=Counted(
        Forms("{}|ஆயிரம்", "{}|ஆயிரத்து"), {n: Forms(word, _before_more(word)) for n, word in enumerate(_THOUSANDS, 1)}
    ),
    lakh=Counted(Forms("{}|லட்சம்", "{}|லட்சத்து")),
    crore=Counted(Forms("{}|கோடி", "{}|கோடியே")),
    minus="மைனஸ்",
    star="ஸ்டார்",
    hash="ஹாஷ்",
    rupee=Counted(Forms("{}|ரூபாய்")),
    paisa=Counted(Forms("{}|பைசா")),
    days=_BELOW_100[1:32],
    months=(
        *("ஜனவரி", "பிப்ரவரி", "மார்ச்", "ஏப்ரல்", "மே", "ஜூன்"),
        *("ஜூலை", "ஆகஸ்ட்", "செப்டம்பர்", "அக்டோபர்", "நவம்பர்", "டிசம்பர்"),
    ),
    day_parts={4: "காலை", 12: "மதியம்", 16: "மாலை", 20: "இரவு"},
    hour=Counted(Forms("{}|மணி")),
    minute=Counted(Forms("{}|நிமிடங்கள்"), {1: Forms("{}|நிமிடம்")}),
)
