"""Bad files of texts."""

from __future__ import annotations

import gzip
import json
from typing import Any, Final

from e2e.bad_input_case import Cases, Ground

_FILMS: Final = "label\ttext\n1\ta good film\n0\ta bad film\n"
_QUOTED: Final = 'label,text\n1,"good, really"\n0,"a ""bad"" film"\n'
_JSONL: Final = '{"label": 1, "text": "a good film"}\n'
_WORDS: Final = "Rome\tB-LOC\nis\tO\n\nold\tO\ncity\tO\n\n"
_UD: Final = "1\tfine\tfine\tADJ\tJJ\t_\t0\troot\t_\t_\n"
_SKIP: Final = "correct the file, or leave such rows out with data.on_fault=skip"


def _pair(ground: Ground, german: str | bytes, english: str, *words: str) -> list[str]:
    ground.write("m/train.de", german)
    ground.write("m/train.en", english)
    return ["data", "m", *words]


def _squad(**answer: Any) -> str:
    answers = [{"text": "Rome", "answer_start": 0, **answer}]
    asked = {"question": "Which city?", "id": "q1", "answers": answers}
    good = {"question": "Which?", "id": "q0", "answers": [{"text": "old", "answer_start": 8}]}
    return json.dumps({"data": [{"paragraphs": [{"context": "Rome is old.", "qas": [good, asked]}]}]})


CASES: Final[Cases] = {
    "text table": {
        "bytes that are no UTF-8": (
            lambda g: g.data("a.tsv", _FILMS.encode() + b"1\tcaf\xe9\n"),
            f"byte 43 of the file is no UTF-8 (data.encoding= | a.tsv, row 4, value '1\\tcaf\\\\xe9' | {_SKIP}",
        ),
        "a zero byte": (
            lambda g: g.data("a.tsv", _FILMS + "1\ta\0b\n"),
            f"zero byte, at byte 41 of the file | a.tsv, row 4, value '1\\ta\\\\x00b' | {_SKIP}",
        ),
        "a row too wide": (
            lambda g: g.data("a.tsv", _FILMS + "1\tgood\tfilm\n"),
            f"the row has 3 cells, the table 2 columns | a.tsv, row 4, value '1\\tgood\\tfilm' | {_SKIP}",
        ),
        "a row without label": (
            lambda g: g.data("a.tsv", _FILMS + "\tno label\n"),
            f"the label is missing | a.tsv, row 4, column 'label', value '' | {_SKIP}",
        ),
        "an empty text": (
            lambda g: g.data("a.tsv", _FILMS + "1\t \n"),
            f"the text is empty | a.tsv, row 4, column 'text', value '' | {_SKIP}",
        ),
        "a score that is none": (
            lambda g: g.data(
                "a.tsv", "score\ttext\n1.5\ta film\n2.5\tanother film\nhigh\tno film\n", "data.target=number"
            ),
            f"the score is not a finite number | a.tsv, row 4, column 'score', value 'high' | {_SKIP}",
        ),
        "a quote that is never closed": (
            lambda g: g.data("a.csv", _QUOTED + '1,"fine\n'),
            f"the quote is never closed | a.csv, row 4, value '1,\"fine' | {_SKIP}",
        ),
        "a text column that is not there": (
            lambda g: g.data("a.tsv", _FILMS, "data.text=txt"),
            "There is no column called 'txt' | data.text, columns of a.tsv | did you mean 'text'?",
        ),
        "a column for two things": (
            lambda g: g.data("a.tsv", _FILMS, "data.text=text", "data.label=1"),
            "The column 'text' is named by data.text and by data.label | a.tsv | data.label=…",
        ),
        "a line that is no JSON": (
            lambda g: g.data("a.jsonl", _JSONL + '{"label": 0\n'),
            "no JSON: Expecting ',' delimiter at character 12 | a.jsonl, row 2, value '{\"label\": 0' | " + _SKIP,
        ),
        "a line that is no object": (
            lambda g: g.data("a.jsonl", _JSONL + "7\n"),
            f"the value is no object but int | a.jsonl, row 2, value '7' | {_SKIP}",
        ),
        "a key that is missing": (
            lambda g: g.data("a.jsonl", _JSONL + '{"label": 0, "txt": "bad"}\n'),
            f"the key is missing; there is label, txt | a.jsonl, row 2, column 'text' | {_SKIP}",
        ),
        "a packed file cut off": (
            lambda g: g.data("a.tsv.gz", gzip.compress((_FILMS * 20).encode())[:-20], "data.reader=text-table"),
            "The gzip data is damaged after | a.tsv.gz | download or copy the file again",
        ),
        "an encoding that is none": (
            lambda g: g.data("a.tsv", _FILMS, "data.encoding=utf8x"),
            "utf8x | data.encoding | change data.encoding",
        ),
    },
    "words": {
        "a row too narrow": (
            lambda g: g.data("a.txt", _WORDS * 3 + "New\nYork\tB-LOC\n", "data.reader=conll"),
            f"the row has 1 column, the others 2 | a.txt, row 19, value 'New' | {_SKIP}",
        ),
        "a tag out of the scheme": (
            lambda g: g.data("a.txt", _WORDS * 20 + "York\tLOC\n"),
            f"the tag is none of BIO | a.txt, row 121, column 'tag', value 'LOC' | {_SKIP}",
        ),
        "a tag that cannot stand there": (
            lambda g: g.data("a.txt", _WORDS + "York\tI-LOC\n", "data.scheme=bio"),
            f"cannot stand here by BIO: the beginning stands before it | a.txt, row 7, column 'tag', value 'I-LOC' | {_SKIP}",
        ),
        "a column of tags that is not there": (
            lambda g: g.data("a.txt", _WORDS, "data.label=tagg"),
            "There is no column called 'tagg' | data.label, columns of a.txt | did you mean 'tag'?",
        ),
        "an id out of sequence": (
            lambda g: g.data("a.conllu", _UD + "\n" + _UD + _UD.replace("1\t", "3\t", 1)),
            f"the id is out of sequence; 2 is expected | a.conllu, row 4, column 'id', value '3' | {_SKIP}",
        ),
        "no part of speech": (
            lambda g: g.data("a.conllu", _UD + "\n" + _UD.replace("ADJ", "_")),
            f"the tag is missing | a.conllu, row 3, column 'upos', value '_' | {_SKIP}",
        ),
    },
    "translations": {
        "files of different length": (
            lambda g: _pair(g, "eins\nzwei\ndrei\n", "one\ntwo\n"),
            f"there are 2 lines, but 3 in m/train.de | m/train.en, row 2 | {_SKIP}",
        ),
        "a side that is empty": (
            lambda g: _pair(g, "eins\nzwei\n", "one\n\n"),
            f"the sentence is empty | m/train.en, row 2, value '' | {_SKIP}",
        ),
        "a language that is not there": (
            lambda g: _pair(g, "eins\n", "one\n", "data.languages=[de,it]"),
            "There is no language called 'it' | data.languages, m | say data.languages=[de,en]",
        ),
    },
    "questions": {
        "an answer that is elsewhere": (
            lambda g: g.data("a.json", _squad(answer_start=3)),
            "where 'e is' stands; it stands at 0 | a.json, row 2, column 'data[0].paragraphs[0].qas[1].answers[0].answer_start', "
            f"value '3' | {_SKIP}",
        ),
        "an answer that is nowhere": (
            lambda g: g.data("a.json", _squad(text="Paris")),
            f"it stands nowhere in the context | a.json, row 2 | {_SKIP}",
        ),
        "JSON that is cut off": (
            lambda g: g.data("a.json", _squad()[:-4]),
            "The file is no JSON: Expecting | a.json | is the file whole?",
        ),
    },
}
