"""English grammar: several phrasings of a question, and the only wording of each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from qdsft.data.synth import programs as p
from qdsft.data.synth.answers import kind_of
from qdsft.data.synth.english_words import ATTRIBUTES, NOUNS, RELATIONS, SET_RELATIONS
from qdsft.data.synth.programs import Node
from qdsft.data.synth.steps import Step
from qdsft.data.synth.world import ATTRIBUTES as OWNERS
from qdsft.data.synth.world import SETS, World


class English:
    """Put questions and steps into words. One object serves a whole corpus."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.step: Callable[[Step], str] = lru_cache(maxsize=1 << 14)(self._step)
        """Return the wording of a step, from a cache for common steps."""

    def name(self, entity: str) -> str:
        """Return an entity's name in answers."""
        return entity

    def _step(self, step: Step) -> str:
        names = [f"#{item}" if isinstance(item, int) else item for item in step.references]
        plural = NOUNS[step.kind][1] if step.kind else ""
        match step.act:
            case "follow":
                return RELATIONS[step.name].step.format(*names)
            case "value":
                return ATTRIBUTES[step.name].step.format(*names)
            case "each_value":
                return ATTRIBUTES[step.name].step.format(f"each of {names[0]}")
            case "members":
                return f"Which {plural} {SET_RELATIONS[step.name].predicates[0].format(*names)}?"
            case "each_members":
                return f"Which {plural} {SET_RELATIONS[step.name].predicates[0].format(f'each of {names[0]}')}?"
            case "each_count":
                return f"How many {plural} are in {names[0]} for each of {names[1]}?"
            case "filter":
                return f"Which of {names[0]} {_condition(step.name, step.up, step.bound, 0)}?"
            case "both":
                return f"Which {plural} are in both {names[0]} and {names[1]}?"
            case "either":
                return f"Which {plural} are in {names[0]} or {names[1]}?"
            case "top" | "most":
                return f"Which of {names[0]} has the {'highest' if step.up else 'lowest'} number in {names[1]}?"
            case "count":
                return f"How many {plural} are in {names[0]}?"
            case "compare":
                words = ATTRIBUTES[step.name]
                comparative = words.more if step.up else words.less
                which = _which(step.kind)
                return f"{which} {comparative}, {names[0]} ({names[2]}) or {names[1]} ({names[3]})?"
            case "difference":
                return f"What is the difference between {names[0]} and {names[1]}?"
            case "exceeds":
                return f"Is {names[0]} {'greater' if step.up else 'less'} than {names[1]}?"
            case "same":
                return f"Are {names[0]} and {names[1]} the same?"
        raise ValueError(f"there is no step {step.act!r}")

    def question(self, program: Node, frame: int, style: int) -> str:
        """Return a phrasing of a program: `frame` 0..2 chooses the sentence, `style` 0..3 the phrases in it.

        Bit 0 of `style` is for all phrases, except that bit 1 is for the second of two chains that are compared.
        """
        match program:
            case p.Follow(relation, of):
                asked = RELATIONS[relation]
                direct = asked.step.format(self._noun(of, style))
                noun = asked.nouns[style].format(self._noun(of, style))
                who = "Who" if kind_of(program, self._world) == "person" else "What"
                return (direct, f"{who} is {noun}?", f"Can you name {noun}?")[frame]
            case p.Value(attribute, of):
                noun = self._noun(of, style)
                name = f"the {ATTRIBUTES[attribute].noun} of {noun}"
                return (ATTRIBUTES[attribute].step.format(noun), f"What is {name}?", f"Can you tell me {name}?")[frame]
            case p.Filter(p.Filter() as inner, attribute, above, bound):
                first = _condition(inner.attribute, inner.above, inner.bound, style)
                group, condition = (
                    self._set(inner.of, style),
                    f"{first} and {_condition(attribute, above, bound, style)}",
                )
                return self._filtered(group, condition, inner, frame)
            case p.Filter(of, attribute, above, bound):
                return self._filtered(self._set(of, style), _condition(attribute, above, bound, style), of, frame)
            case p.Both() | p.Either():
                noun, who, predicate = self._joined(program, style)
                frames = (f"Which {noun} {predicate}?", f"What are all the {noun} {who} {predicate}?")
                return (*frames, f"Can you list the {noun} {who} {predicate}?")[frame]
            case p.Superlative():
                noun = self._noun(program, style)
                who = "Who" if kind_of(program, self._world) == "person" else "What"
                return (f"{who} is {noun}?", f"Which one is {noun}?", f"Can you tell me {who.lower()} {noun} is?")[
                    frame
                ]
            case p.Count(of):
                group = self._set(of, style)
                frames = (f"How many {self._counted(of, style)}?", f"What is the number of {group}?")
                return (*frames, f"Can you count the {group}?")[frame]
            case p.Compare() | p.Difference() | p.Exceeds() | p.Same():
                return self._comparison(program, frame, style)
            case p.PerGroup(of, relation):
                words, noun = SET_RELATIONS[relation], NOUNS[SETS[relation][1]][1]
                each = f"each of the {self._set(of, style)}"
                frames = (
                    f"How many {noun} {words.predicates[0].format(each)}?",
                    f"What is the number of {noun} {words.clauses[0].format(each)}?",
                )
                return (*frames, f"Can you count the {noun} {words.clauses[0].format(each)}?")[frame]
            case p.MostMembers(of, relation):
                group, most = self._set(of, style), SET_RELATIONS[relation].most
                frames = (f"Which of the {group} {most}?", f"Of the {group}, which one {most}?")
                return (*frames, f"Can you tell me which of the {group} {most}?")[frame]
        raise ValueError(f"{program} is not a question")

    def _comparison(self, program: p.Compare | p.Difference | p.Exceeds | p.Same, frame: int, style: int) -> str:
        """Return the question of a program that compares two things."""
        match program:
            case p.Compare(left, right, attribute, more):
                (first, second), which = self._two(left, right, style), _which(OWNERS[attribute])
                than = ATTRIBUTES[attribute].more if more else ATTRIBUTES[attribute].less
                frames = (f"{which} {than}, {first} or {second}?", f"Of {first} and {second}, {which.lower()} {than}?")
                return (*frames, f"Can you tell me {which.lower()} {than}, {first} or {second}?")[frame]
            case p.Difference(left, right, attribute):
                both, noun = " and ".join(self._two(left, right, style)), ATTRIBUTES[attribute].noun
                frames = (
                    f"What is the difference in {noun} between {both}?",
                    f"By how much do {both} differ in {noun}?",
                )
                return (*frames, f"How far apart are {both} in {noun}?")[frame]
            case p.Exceeds(left, right, attribute, more):
                first, second = self._two(left, right, style)
                return _yes_no(first, ATTRIBUTES[attribute].more if more else ATTRIBUTES[attribute].less, second, frame)
            case p.Same(left, right, relation):
                first, second = self._two(left, right, style)
                auxiliary, rest = RELATIONS[relation].same
                said = rest if auxiliary == "Do" else f"{auxiliary.lower()} {rest}"
                frames = (f"{auxiliary} {first} and {second} {rest}?", f"Is it true that {first} and {second} {said}?")
                noun = RELATIONS[relation].nouns[0]
                return (*frames, f"Is {noun.format(first)} also {noun.format(second)}?")[frame]

    def _two(self, left: Node, right: Node, style: int) -> tuple[str, str]:
        """Return the noun phrases of two compared entities."""
        return self._noun(left, style % 2), self._noun(right, style if isinstance(left, p.Named) else style // 2)

    def _noun(self, node: Node, style: int) -> str:
        """Return a noun phrase for one entity."""
        match node:
            case p.Named(name):
                return name
            case p.Follow(relation, of):
                return RELATIONS[relation].nouns[style].format(self._noun(of, style))
            case p.Superlative(of, attribute, most):
                singular, clause = NOUNS[kind_of(of, self._world)][0], self._clause(of, style)
                words = ATTRIBUTES[attribute]
                said = (words.highest if most else words.lowest)[style]
                return f"the {singular} {clause} {said}" if style else f"the {said} {singular} {clause}"
        raise ValueError(f"{node} is not a noun phrase")

    def _set(self, node: Node, style: int) -> str:
        """Return a plural noun phrase for a set, without article."""
        noun = NOUNS[kind_of(node, self._world)][1]
        match node:
            case p.Members():
                return f"{noun} {self._clause(node, style)}"
            case p.Filter(of, attribute, above, bound):
                return f"{self._set(of, style)} {self._who(of)} {_condition(attribute, above, bound, style)}"
            case p.Both() | p.Either():
                noun, who, predicate = self._joined(node, style)
                return f"{noun} {who} {predicate}"
        raise ValueError(f"{node} is not a set")

    def _counted(self, node: Node, style: int) -> str:
        """Return the words after "how many"."""
        match node:
            case p.Filter(of, attribute, above, bound):
                return f"{self._set(of, style)} {_condition(attribute, above, bound, style)}"
            case p.Both() | p.Either():
                noun, _, predicate = self._joined(node, style)
                return f"{noun} {predicate}"
        return f"{self._set(node, style)} are there"

    def _clause(self, node: Node, style: int) -> str:
        assert isinstance(node, p.Members)
        return SET_RELATIONS[node.relation].clauses[style].format(self._noun(node.of, style))

    def _joined(self, node: p.Both | p.Either, style: int) -> tuple[str, str, str]:
        """Return plural noun, relative pronoun and predicate of an intersection or a union."""
        word = "and" if isinstance(node, p.Both) else "or"
        left, right = node.left, node.right
        first, second = self._noun(left.of, style), self._noun(right.of, style)
        predicate = SET_RELATIONS[left.relation].predicates[style]
        if left.relation == right.relation:
            joined = predicate.format(f"{'both ' if word == 'and' else ''}{first} {word} {second}")
        else:
            other = SET_RELATIONS[right.relation].predicates[style]
            joined = f"{predicate.format(first)} {word} {other.format(second)}"
        return NOUNS[kind_of(node, self._world)][1], self._who(node), joined

    def _who(self, node: Node) -> str:
        return "who" if kind_of(node, self._world) == "person" else "that"

    def _filtered(self, group: str, condition: str, of: Node, frame: int) -> str:
        who = self._who(of)
        frames = (f"Which {group} {condition}?", f"Of the {group}, which {condition}?")
        return (*frames, f"Can you list the {group} {who} {condition}?")[frame]


def _which(kind: str) -> str:
    return "Who" if kind == "person" else "Which"


def _condition(attribute: str, above: bool, bound: int, style: int) -> str:
    words = ATTRIBUTES[attribute]
    number = f"{bound:,}" if bound >= 10_000 else str(bound)
    return (words.above if above else words.below)[style].format(n=number)


def _yes_no(first: str, comparative: str, second: str, frame: int) -> str:
    verb, rest = comparative.split(" ", 1)
    inverted = (
        f"Does {first} have {rest} than {second}?"
        if verb == "has"
        else f"{verb.capitalize()} {first} {rest} than {second}?"
    )
    frames = (inverted, f"Is it true that {first} {comparative} than {second}?")
    return (*frames, f"Would it be right to say that {first} {comparative} than {second}?")[frame]
