"""One cause that two properties see is one finding."""

from oracle import findings
from oracle.finding import AlsoOn

CHOSEN = {
    "ops": ("rms_norm",),
    "providers": ("raises_on_empty",),
    "routes": ("eager", "eager-unwrapped"),
    "budget": 200,
}


def _raised(outcome) -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (f.property, [(other.property, other.route) for other in f.also_on])
        for f in outcome.findings
        if (f.judge, f.kind) == ("completion", "raised")
    ]


def test_another_property_that_shows_the_same_case_is_named_in_the_finding(judged):
    outcome = judged("outputs", faulty=True, **CHOSEN)
    ((first, also),) = _raised(outcome)
    (second,) = {"numerics", "contract"} - {first}
    routes = CHOSEN["routes"]
    assert also == [("", routes[1]), (second, routes[0]), (second, routes[1])]


def test_one_that_does_not_show_it_has_a_finding_of_its_own(judged, monkeypatch):
    asked = findings.recheck

    def recheck(pool, like, case, **how):
        # As if the other property drove the case otherwise and saw nothing.
        return asked(pool, like, case, **how) if like.prop == "numerics" else None

    monkeypatch.setattr(findings, "recheck", recheck)
    outcome = judged("outputs", faulty=True, **CHOSEN)
    assert sorted(_raised(outcome)) == [
        ("contract", [("", "eager-unwrapped")]),
        ("numerics", [("", "eager-unwrapped")]),
    ]


def test_it_is_said_on_the_screen():
    assert str(AlsoOn("eager", "a" * 12, "contract")) == "eager of contract"
    assert str(AlsoOn("opaque", "a" * 12)) == "opaque"
