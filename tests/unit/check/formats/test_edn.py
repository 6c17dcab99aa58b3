"""EDN is read as it is written, and what is not EDN gets its line."""

import pytest

from test_framework.check.formats.edn import Edn, EdnError


def read(text: str) -> list[object]:
    """Return the forms of a text."""
    return [form for _, form in Edn(text).forms()]


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("nil", None),
        ("true", True),
        ("-12", -12),
        ("7N", 7),
        ("2.5e1", 25.0),
        ("3M", 3.0),
        (":timed-out", "timed-out"),
        ("symbol", "symbol"),
        (r'"a\n\"\\\u0041"', 'a\n"\\A'),
        (r"\newline", "\n"),
        (r"\a", "a"),
        (r"[\[ \"]", ("[", '"')),
        ("[1 (2, 3) []]", (1, (2, 3), ())),
        ("#{1 2}", frozenset({1, 2})),
        ('{:f :txn, "k" {1 2}}', {"f": "txn", "k": {1: 2}}),
        ('#inst "2026-01-01"', "2026-01-01"),
        ("#jepsen.history.Op{:process 1}", {"process": 1}),
        ("[1 #_ 2 3 #_#_ 4 5 6]", (1, 3, 6)),
        ("; a remark {\n[1 ; another ]\n 2]", (1, 2)),
    ],
)
def test_each_kind_of_form_is_read(text: str, form: object) -> None:
    """Numbers, texts, collections, tags, remarks and discarded forms."""
    assert read(text) == [form]


def test_a_ratio_is_exact() -> None:
    """A third is no float."""
    assert str(read("1/3")[0]) == "1/3"


def test_forms_follow_each_other_without_a_separator() -> None:
    """Brackets part forms; discarded ones between them are no forms."""
    assert read("{:a 1}{:b 2} #_{:c 3} [4]") == [{"a": 1}, {"b": 2}, (4,)]


@pytest.mark.slow
def test_text_longer_than_a_block_is_read_whole() -> None:
    """Tokens are cut in blocks; a string across their border stays in one piece."""
    lines = [f'{{:process {n} :value "{n}\n{n}"}}\n' for n in range(60_000)]
    text = "".join([*lines[:30_000], '"' + "long\n" * 400_000 + '"', *lines[30_000:]])

    forms = read(text)

    assert len(forms) == 60_001
    assert forms[30_000] == "long\n" * 400_000
    assert forms[-1] == {"process": 59_999, "value": "59999\n59999"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{:a 1}\n{:b [1 2}", r"line 2: '}' closes '\['"),
        ("\n\n]", "line 3: ']' closes nothing"),
        ("[1\n2", r"line 2: the text ends inside a '\['"),
        ('[1\n"abc]', "line 2: a string does not end"),
        ("{:a}", "a key without a value"),
        ("{:a 1 :a 2}", "the same key twice"),
        ("#{{}}", "a map is an element of a set"),
        ("12x", "'12x' is no number"),
        ("1/0", "'1/0' is no number"),
        pytest.param("9" * 5000, "line 1: ", id="a number that is too long"),
        (r'"\q"', r"unknown escape '\\q'"),
        pytest.param("[" * 200, "deeper than 100 levels", id="a nest that is too deep"),
    ],
)
def test_what_is_no_edn_gets_its_line(text: str, words: str) -> None:
    """A cut or mistaken text is told by its line."""
    with pytest.raises(EdnError, match=words):
        read(text)
