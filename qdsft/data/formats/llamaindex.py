"""Write the sub-questions that LlamaIndex's SubQuestionOutputParser reads."""

from __future__ import annotations

from qdsft.data.formats.format import Format, Item, Writer, json_line


def _text(item: Item) -> str:
    items = [{"sub_question": step, "tool_name": item.tool_name} for step in item.steps]
    return json_line({"question": item.question, "items": items}, {})


FORMAT = Format(
    "llamaindex",
    writer=Writer(
        _text,
        holds="JSON Lines: `question` and `items`; [LlamaIndex](https://docs.llamaindex.ai)'s "
        "`SubQuestionOutputParser` and `SubQuestionList` read each line",
        columns="none",
        self_contained=True,  # its engine puts no answers in place of references
    ),
)
