"""Telugu. What is counted by more than one takes the plural, in its oblique form before a further word: రెండు వేలు, but రెండు వేల
ఐదు వందల రూపాయలు. One of a thing is ఒక, and ఒక్క at a number's end.
"""

from exoflow.config.spoken.table import Counted, Forms, Table

_BELOW_TWENTY = (
    *("సున్నా", "ఒకటి", "రెండు", "మూడు", "నాలుగు", "ఐదు", "ఆరు", "ఏడు", "ఎనిమిది", "తొమ్మిది"),
    *("పది", "పదకొండు", "పన్నెండు", "పదమూడు", "పద్నాలుగు", "పదిహేను", "పదహారు", "పదిహేడు", "పద్దెనిమిది", "పంతొమ్మిది"),
)
_TENS = ("ఇరవై", "ముప్పై", "నలభై", "యాభై", "అరవై", "డెబ్బై", "ఎనభై", "తొంభై")
_BELOW_100 = (*_BELOW_TWENTY, *(word for ten in _TENS for word in (ten, *(f"{ten} {one}" for one in _BELOW_TWENTY[1:10]))))
_HUNDREDS = Forms("{}|వందలు", "{}|వందల", "{}|వందల")

TELUGU = Table(
    below_100=_BELOW_100,
    counting={1: "ఒక్క", **{n: f"{ten} ఒక్క" for n, ten in zip(range(21, 100, 10), _TENS, strict=True)}},
    hundred=Counted(_HUNDREDS, {1: Forms("వంద", "నూట")}),
    thousand=Counted(Forms("{}|వేలు", "{}|వేల", "{}|వేల"), {1: Forms("వెయ్యి")}),
    lakh=Counted(Forms("{}|లక్షలు", "{}|లక్షల", "{}|లక్షల"), {1: Forms("ఒక|లక్ష")}),
    crore=Counted(Forms("{}|కోట్లు", "{}|కోట్ల", "{}|కోట్ల"), {1: Forms("ఒక|కోటి")}),
    minus="మైనస్",
    star="స్టార్",
    hash="హ్యాష్",
    rupee=Counted(Forms("{}|రూపాయలు", "{}|రూపాయల"), {1: Forms("ఒక|రూపాయి")}),
    paisa=Counted(Forms("{}|పైసలు"), {1: Forms("ఒక|పైసా")}),
    days=_BELOW_100[1:32],
    months=(
        *("జనవరి", "ఫిబ్రవరి", "మార్చి", "ఏప్రిల్", "మే", "జూన్"),
        *("జులై", "ఆగస్టు", "సెప్టెంబర్", "అక్టోబర్", "నవంబర్", "డిసెంబర్"),
    ),
    century=Counted(_HUNDREDS),  # పంతొమ్మిది | వందల | తొంభై ఎనిమిది
    day_parts={4: "ఉదయం", 12: "మధ్యాహ్నం", 16: "సాయంత్రం", 20: "రాత్రి"},
    hour=Counted(Forms("{}|గంటలు", "{}|గంటల"), {1: Forms("ఒంటి గంట")}),
    minute=Counted(Forms("{}|నిమిషాలు"), {1: Forms("ఒక|నిమిషం")}),
)
