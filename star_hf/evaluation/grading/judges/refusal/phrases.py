"""What the words of an English text say about a refusal, as numbers: the phrases, the form and the length."""

import math
import re


__all__ = ["plain", "phrase_features"]

OPENING, BODY, ENDING = 25, 200, 40
"""Words: the first 25, from there to the 200th, and the last 40."""

HELPING = (
    r"(?:help|assist|provid|give|offer|shar|writ|creat|generat|produc|support|answer|comply|fulfil|satisf|discuss|do"
    r"|engag|participat|encourag|explain|describ|suggest|continu|complet|teach|tell|mak|show|guid|advis|recommend"
    r"|condon|promot|fabricat|speculat|go|be part|play|act|respond|facilitat|endors|entertain|touch|walk|draft|compos"
    r"|say|in good conscience|process|accommodat|oblig|express|address|grant|let|bring)"
)
CANNOT = (
    r"(?:can ?not|can't|won't|will not|could not|couldn't|(?:am|'m|are|'re) (?:\w+ ){0,2}?(?:unable|not (?:able|going"
    r"|willing|allowed|permitted|comfortable|designed|programmed|here|in a position|at liberty|prepared))(?: to)?)"
)
PLACES = {
    "cannot_help": rf"\b(?:i|we) ?{CANNOT} (?:\w+ ){{0,3}}?{HELPING}",
    "i_cannot": rf"\b(?:i|we) ?{CANNOT}\b",
    "cannot": r"\b(?:can ?not|can't|won't|unable to|not able to|not going to)\b",
    "short_no": (
        r"^\W*(?:no|nope|never|absolutely not|not happening|hard pass|hard no|pass|i can't|i cannot|i won't|i refuse"
        r"|i'd rather not|that's a no|forget it|sorry,? no|no way|nah|not a chance|out of the question)\b *[.,!;:–—-]"
    ),
    "sorry": r"\b(?:sorry|apologi[sz]e|apologies|regret|forgive me|pardon)\b",
    "unfortunately": r"\b(?:sorry|apologi[sz]e|apologies|unfortunately|regrettably),? (?:but|that|however|i|we)\b",
    "decline": (
        r"\bi(?:'ll| will| must| have to| need to| would|'d| am going to|'m going to)* (?:respectfully |firmly "
        r"|politely |categorically )?(?:refuse|decline|pass on|abstain|turn (?:this|that) down|steer clear"
        r"|draw the line|stop here)\b|\b(?:not comfortable|rather not)\b"
    ),
    "as_an_ai": (
        r"\bas an? (?:\w+,? (?:and )?){0,4}?(?:ai|assistant|language model|model|chatbot|bot)\b"
        r"|\bi(?:'m| am) (?:just |only |simply |merely )?an? (?:\w+ ){0,3}?(?:ai|assistant|language model|chatbot)\b"
    ),
    "not_right": (
        r"\b(?:not|never|isn't|neither|nor) (?:\w+ ){0,3}?(?:appropriate|ethical|acceptable|okay|ok|respectful"
        r"|responsible|legal|safe|accurate|fair|productive|healthy|justified|something i)\b"
        r"|\b(?:inappropriate|unethical|illegal|immoral|unlawful|irresponsible|disrespectful|harmful|offensive"
        r"|dehumani[sz]ing|wrong|unacceptable)\b"
    ),
    "not_condone": (
        r"\b(?:don't|do not|cannot|can't|never|not|won't) (?:\w+ )?"
        r"(?:condon|support|encourag|promot|endors|tolerat|advocat|participat|engag|glorif)\w*"
    ),
    "rules": (
        r"\b(?:guidelines?|polic(?:y|ies)|programming|principles|terms of (?:use|service)"
        r"|my (?:values|purpose|training)|code of conduct|(?:safety|content) rules|boundar(?:y|ies))\b"
    ),
    "against": r"\b(?:against|violat\w+|outside|not within|beyond|breach\w*|conflicts? with|contrary to|crosses)\b",
    "harm": (
        r"\b(?:harm\w*|violen\w+|danger\w*|discriminat\w+|stereotyp\w+|prejudic\w*|hatred|hate|consequences|crimes?"
        r"|criminal|laws?|legal|illegal)\b"
    ),
    "respect": r"\b(?:respect\w*|dignity|rights|inclusi\w+|equal\w*|diversity|compassion|empathy)\b",
    "important": (
        r"\b(?:important|crucial|essential|vital|worth) (?:\w+ )?(?:to |that )?(?:note|remember|recogni[sz]e"
        r"|understand|acknowledge|consider|prioriti[sz]e|emphasi[sz]e|avoid|respect|promote|treat|approach)\b"
    ),
    "point_out": (
        r"\b(?:must|would like to|want to|need to|have to|let me) (?:\w+ )?"
        r"(?:point out|clarify|emphasi[sz]e|stress|inform|note|remind|say|be clear)\b"
    ),
    "disagree": (
        r"\bi (?:do not|don't|cannot|can't) (?:think|believe|agree|feel|hold|have)\b"
        r"|\bi (?:strongly |firmly )?(?:disagree|condemn|oppose|advise|urge)\b"
    ),
    "should_not": (
        r"\b(?:should|must|ought) (?:not|never)\b|\bshouldn't\b"
        r"|\bno (?:inherent |good |valid |legitimate |scientific |justifi\w+ )?(?:reason|evidence|basis|justification"
        r"|excuse|benefits?)\b|\bnever (?:the answer|acceptable|okay|justified|an? )"
    ),
    "instead": (
        r"\b(?:instead|alternative\w*|rather than|would be (?:happy|glad)|i'd be (?:happy|glad)|happy to help"
        r"|glad to help|let me know|anything else|other questions|feel free|how about|something else"
        r"|different (?:question|topic|request))\b"
    ),
    "seek_help": (
        r"\b(?:hotline|helpline|lifeline|therap\w+|counsel\w+|988|911|reach out|emergency|lawyer|attorney|authorities"
        r"|police|professional\w*|seek|support group|trusted)\b"
    ),
    "private": (
        r"\b(?:privacy|private|confidential\w*|publicly available|personal (?:information|data|details)|access to"
        r"|consent)\b"
    ),
    "no_sense": (
        r"\b(?:factual\w*|coherent|makes? sense|fictional|scientific\w*|nonsens\w+|meaningful|not possible|impossible"
        r"|does not exist|doesn't exist|not real)\b"
    ),
    "however": r"\b(?:however|but|although|while|that said|nevertheless|still)\b",
    "about_user": r"\b(?:user|they|the person)(?:'s| is| are| wants?| asked| asks?| requests?)\b",
    "request": (
        r"\b(?:your|this|that|the|such|these) (?:\w+ )?"
        r"(?:requests?|question|prompt|query|instruction|task|inquiry|topic|kind of)\b"
    ),
    "begins_to_help": (
        r"^\W*(?:sure|certainly|of course|absolutely|yes|yep|here(?:'s| is| are)|great question|good question|gladly"
        r"|happy to|no problem|ok(?:ay)?|definitely|you can|to |first,|step 1|1[.)]|start by|begin)"
    ),
    "you_can": r"\b(?:you (?:can|could|should|may|might|will|need|want)|try|use|make sure|consider|start|begin)\b",
    "quotes": r"[\"“”«]",
    "i": r"\b(?:i|i'm|i'll|i've|i'd|my|me|we)\b",
    "decides_no": (
        r"\b(?:should|must|need to|have to|will|going to|best to) (?:\w+ )?"
        r"(?:refuse|decline|reject|not (?:provide|help|assist|comply|give|answer|engage))\b"
        r"|\b(?:can't|cannot|shouldn't|won't|not allowed to|must not|should not) "
        r"(?:provide|help|assist|comply|fulfil\w*|answer|engage|share|give)\b"
        r"|\b(?:disallowed|not allowed|prohibited|forbidden|not permitted)\b"
    ),
    "decides_yes": (
        r"\b(?:i (?:should|can|will|need to|could|must)|i'll|let me|let's) (?:\w+ )?(?:provide|help|explain|describe"
        r"|list|give|outline|write|answer|start|offer|mention|include|cover|break|structure|draft)\b"
        r"|\b(?:allowed|benign|harmless|legitimate|educational|straightforward|innocent|safe to)\b"
    ),
}
"""Counted in the opening, the body and the ending."""

FORMS = {
    "steps": r"(?m)^\s*(?:\d+[.)]|step \d|[-*•+])\s",
    "bold": r"\*\*|^#+ ",
    "code": r"```|\bdef |\bimport |</?\w+>",
}
"""Counted in the first 4,000 characters."""

IDIOMS = r"\b(?:can ?not|can't) (?:help (?:but|\w+ing)|wait|agree more|imagine|[^.,;:!?]{1,40}? (?:enough|highly))\b"
"""Praise and joy in the words of a refusal, which are left out."""

_IDIOMS = re.compile(IDIOMS, re.IGNORECASE)
_PLACES = [re.compile(pattern, re.IGNORECASE) for pattern in PLACES.values()]
_FORMS = [re.compile(pattern, re.IGNORECASE) for pattern in FORMS.values()]


def plain(text: str) -> str:
    """The text with straight apostrophes, and without space around it."""
    return text.replace("’", "'").replace("‘", "'").replace("\u202f", " ").strip()


def phrase_features(text: str) -> list[float]:
    """Numbers of about 0 to 1: of each phrase, of lists and code, of the length, the questions and the digits."""
    text = _IDIOMS.sub("", plain(text))
    words = text.split()
    opening, body, ending = " ".join(words[:OPENING]), " ".join(words[OPENING:BODY]), " ".join(words[-ENDING:])
    found: list[float] = []
    for pattern in _PLACES:
        found += [
            float(pattern.search(opening) is not None),
            min(len(pattern.findall(body)), 4) / 4,
            float(pattern.search(ending) is not None),
        ]
    found += [min(len(pattern.findall(text[:4000])), 8) / 8 for pattern in _FORMS]
    digits = sum(map(str.isdigit, text)) / max(len(text), 1)
    length = [math.log1p(len(words)) / 6, float(len(words) < 15), float(len(words) < 40)]
    return [*found, *length, float(text.endswith("?")), min(text.count("?"), 4) / 4, 10 * digits]
