"""English words that people use for one another: who asks for a `car` may have been told of a `vehicle` (SPEC: FIND-4).

Each group is one thing under several names, or one word in forms that no ending explains (`decide`, `decision`). A word
stands in a group only when it seldom means anything else, since each is looked for whenever another of its group is.
"""

from __future__ import annotations

from collections import defaultdict

from federated_memory.search.words import other_forms, stem_of

_DAILY = """
car vehicle automobile; bike bicycle; motorcycle motorbike; plane airplane aircraft; boat ship; trip journey travel;
vacation holiday; luggage suitcase; hike trek; trail path; beach seaside shore; ocean sea; mountain peak; forest
woods; city town; countryside rural; abroad overseas; country nation; foreign abroad; house home; apartment flat;
garden yard; couch sofa; rent lease; move relocate relocation; neighbor neighbour; roommate flatmate; kid child; baby
newborn infant; teen teenager adolescent; mom mother mum; dad father; grandma grandmother; grandpa grandfather;
sibling brother; sibling sister; husband spouse; wife spouse; partner boyfriend; partner girlfriend; relative family;
friend buddy pal; friendship friend; wedding marriage marry; engaged engagement fiance; divorce separation; birth
born; birthday born; death die dead; funeral burial; puppy dog; kitten cat; animal pet; doctor physician; dentist
dental; nurse nursing; therapist therapy counselor counseling; hospital clinic; medicine medication drug; sick ill
illness disease; hurt injury injure; surgery operation; allergy allergic; pregnant pregnancy; diet nutrition; exercise
workout fitness; gym fitness; jog run; swim swimmer; climb climber; race marathon; sport athletic; athlete athletic;
soccer football; coach trainer; match game; team squad; contest competition tournament; compete competition; win
victory; champion championship; prize award; trophy medal; cook prepare; bake oven; meal dish; recipe dish; dinner
supper; snack appetizer; restaurant diner; chef cook; dessert cake; drink beverage; soda soft; vegetable veggie;
vegetarian vegan; movie film; tv television; actor actress; music musical musician; song tune melody; sing singer;
concert gig; band musician; instrument guitar; instrument piano; instrument violin; photo picture photograph
photography; camera photography; painting picture; paint painter; draw drawing sketch; art artist artwork; sculpture
sculptor; pottery ceramic; craft handmade; knit sew; dance dancer; theater theatre; author writer; write writer; poem
poetry poet; game gaming; hobby pastime interest; teacher instructor tutor; teach lesson; course class; lesson class;
student pupil; exam test; college university; degree graduate diploma; graduation graduate; study learn; scholarship
grant; language linguistic; job career; job occupation profession; boss supervisor manager; coworker colleague;
employee staff; hire recruit; quit resign; retire retirement; promotion promote; salary wage pay; interview candidate;
office workplace; meeting conference; company firm business; startup business; entrepreneur business; buy purchase;
sell sale; shop store; cheap inexpensive; cost price; money cash; debt loan; invest investment; donate donation;
charity fundraiser; volunteer charity; gift present; anniversary celebrate; invite invitation; guest visitor; visit
visitor; talk chat conversation; speak speech; advice advise; suggest recommend suggestion recommendation; help assist
support; answer reply respond response; explain explanation; argue argument; agree agreement; promise pledge; choose
choice pick; decide decision; plan planning; begin start; finish complete; quit stop; try attempt; succeed success;
fail failure; lose loss; search seek; remember memory; believe belief; know knowledge; think thought opinion; idea
concept; dream goal; goal aim objective; hope wish; afraid scared fear; fear phobia; worry worried anxious anxiety;
stress stressful; nervous anxious; happy glad joy; sad unhappy depressed; angry mad anger; proud pride; surprise
surprised; love adore; hate dislike; favorite favourite prefer; tired exhausted fatigue; lonely loneliness; brave
courage; strong strength; grow growth; big large; huge enormous; small little tiny; long length; high height; slow
slowly; easy simple; difficult hard tough; dangerous danger risk; safe safety; broken damage; fix repair; build
construct construction; design designer; clean tidy; wash laundry; accident crash; steal theft stolen; police cop;
lawyer attorney; law legal; politics political politician; vote election; religion religious faith; church faith; pray
prayer; nature natural; environment environmental; climate weather; rain storm; snow winter; plant gardening; flower
blossom; farm farmer; science scientist scientific; history historical; culture cultural; tradition custom; identity
gender; transgender trans; lgbtq gay; support supportive; phone smartphone cellphone; laptop computer; email mail;
letter note; internet online; website site; photo selfie; clothes clothing outfit; shirt clothing; necklace jewelry;
bag backpack; cup mug; knife blade; month monthly; year annual yearly; week weekly; day daily; soon upcoming; recent
recently lately; past previous former; future upcoming; often frequently; sometimes occasionally; many several
numerous; adopt adoption; age old; live reside
"""
_WORK = """
bug defect issue; error exception; crash segfault; db database; repo repository; dir directory folder; config
configuration; settings preferences; env environment; param parameter; func function; impl implementation implement;
init initialize initialise; lib library; pkg package; dep dependency; deps dependencies; doc documentation; docs
documentation; spec specification; msg message; req request; resp response; auth authentication; authn authentication;
authz authorization; login signin; credential password secret; password passwd pw; admin administrator; app
application; info information; perf performance; latency slow; async asynchronous; sync synchronize synchronise; cmd
command; cli terminal; regex regexp; js javascript; ts typescript; py python; k8s kubernetes; postgres postgresql;
mongo mongodb; prod production; dev development; deploy deployment release; rollback revert; delete remove; edit
modify change; update upgrade; fix repair; refactor restructure; optimize optimise speed; cache memoize; timeout
deadline; retry backoff; mock stub; ci pipeline; vm virtual; ui interface; ux usability; btn button; img image;
frontend client; backend server; endpoint route; dns domain; cert certificate; tls ssl; log logging; metric
monitoring; alert alarm; cron schedule; lock mutex; leak leaking; disk storage; encrypt encryption; hash digest;
serialize serialise serialization; parse parser; compile compiler build; lint linter; format formatter; migrate
migration; query sql; col column; idx index; tmp temporary; tz timezone; lang language; i18n internationalization;
l10n localization; a11y accessibility; commit changeset; diff patch; branch fork; color colour; behavior behaviour;
license licence; canceled cancelled; gray grey
"""


def _read(text: str) -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for group in text.split(";"):
        words = group.split()
        for word in words:
            others = [form for other in words if other != word for form in (other, *other_forms(other))]
            found[stem_of(word)].update(dict.fromkeys(others))
    return {stem: tuple(others) for stem, others in found.items()}


_BY_STEM = _read(f"{_DAILY};{_WORK}")


def alike(word: str) -> tuple[str, ...]:
    """What the same thing is called too, in other forms than those of the word itself; nothing for most words."""
    found: dict[str, None] = {}
    for form in (word, *other_forms(word)):
        found.update(dict.fromkeys(_BY_STEM.get(stem_of(form), ())))
    return tuple(other for other in found if stem_of(other) != stem_of(word))
