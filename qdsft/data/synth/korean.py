"""Korean grammar: several phrasings of a question, and the only wording of each step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from qdsft.data.synth import programs as p
from qdsft.data.synth.answers import kind_of
from qdsft.data.synth.korean_words import ATTRIBUTES, NOUNS, RELATIONS, SET_RELATIONS, Noun
from qdsft.data.synth.particles import Word, attach
from qdsft.data.synth.programs import Node
from qdsft.data.synth.steps import Step
from qdsft.data.synth.world import ATTRIBUTES as OWNERS
from qdsft.data.synth.world import RELATIONS as ENDS
from qdsft.data.synth.world import SETS, World


class Korean:
    """Put questions and steps into words. One object serves a whole corpus."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.step: Callable[[Step], str] = lru_cache(maxsize=1 << 14)(self._step)
        """Return the wording of a step, from a cache for common steps."""
        # Titles are common nouns: without quotes they would read as part of the sentence.
        self._titles = {
            name: f"'{korean}'" if world.kinds[name] in ("film", "book") else korean
            for name, korean in world.korean.items()
        }

    def name(self, entity: str) -> str:
        """Return an entity's name in answers."""
        return self._world.korean[entity]

    def _step(self, step: Step) -> str:
        names = [Word(f"#{item}" if isinstance(item, int) else self._titles[item]) for item in step.references]
        each = Word(f"{names[0]} 각각")
        words = NOUNS[step.kind] if step.kind else None
        match step.act:
            case "follow":
                return _what(_related(step.name, names[0], 0), NOUNS[ENDS[step.name][1]], 0)
            case "value":
                return ATTRIBUTES[step.name].step.format(x=names[0])
            case "each_value":
                return ATTRIBUTES[step.name].step.format(x=each)
            case "difference":
                return f"{names[0]:과} {names[1]}의 차이는 얼마인가요?"
            case "exceeds":
                return f"{names[0]:이} {names[1]}보다 {'큰' if step.up else '작은'}가요?"
            case "same":
                return f"{names[0]:과} {names[1]:은} 같은가요?"
        assert words is not None
        noun = Word(words.noun)
        match step.act:
            case "members":
                return _what(_clause(step.name, names[0], 0) + f" {noun}", words, 0)
            case "each_members":
                return _what(_clause(step.name, each, 0) + f" {noun}", words, 0)
            case "each_count":
                return f"{names[0]}에 속한 {noun:은} {names[1]}마다 몇 {words.counter}인가요?"
            case "filter":
                return _what(f"{names[0]} 중에서 {_condition(step.name, step.up, step.bound, 0)} {noun}", words, 0)
            case "both":
                return _what(f"{names[0]}, {names[1]} 양쪽에 모두 있는 {noun}", words, 0)
            case "either":
                return _what(f"{names[0]}, {names[1]} 가운데 한쪽에라도 있는 {noun}", words, 0)
            case "top":
                ordered = ATTRIBUTES[step.name]
                said = f"{attach(ordered.noun, '이')} 가장 {ordered.high if step.up else ordered.low} {noun}"
                return _what(f"{names[0]} 중에서 {names[1]}의 {said}", words, 0)
            case "most":
                return _what(f"{names[0]} 중에서 {names[1]}의 수가 가장 많은 {noun}", words, 0)
            case "count":
                return f"{names[0]}에 속한 {noun:은} 모두 몇 {words.counter}인가요?"
            case "compare":
                pair = f"{Word(f'{names[0]}({names[2]})'):과} {names[1]}({names[3]})"
                return _what(f"{pair} 가운데 {_degree('더', step.name, step.up)} {noun}", words, 0)
        raise ValueError(f"there is no step {step.act!r}")

    def question(self, program: Node, frame: int, style: int) -> str:
        """Return a phrasing of a program: `frame` 0..2 chooses the sentence, `style` 0..3 the phrases in it.

        Bit 0 of `style` is for all phrases, except that bit 1 is for the second of two chains that are compared.
        """
        match program:
            case p.Follow() | p.Superlative():
                return _what(self._noun(program, style), NOUNS[kind_of(program, self._world)], frame)
            case p.Value(attribute, of):
                said = ATTRIBUTES[attribute]
                return (said.step, said.tell, said.casual)[frame].format(x=self._noun(of, style))
            case p.Filter() | p.Both() | p.Either():
                return _list(self._set(program, style), NOUNS[kind_of(program, self._world)], frame)
            case p.Count(of):
                counter = NOUNS[kind_of(of, self._world)].counter
                group = self._set(of, style)
                frames = (f"{group:은} 모두 몇 {counter}인가요?", f"{group:이} 몇 {counter}인지 알려 주세요.")
                return (*frames, f"{group:은} 몇 {counter}이나 되나요?")[frame]
            case p.Compare(left, right, attribute, more):
                kind = NOUNS[OWNERS[attribute]]
                among = ("가운데", "중에서", "중")[frame]
                pair = self._pair(left, right, style)
                return _what(Word(f"{pair} {among} {_degree('더', attribute, more)} {kind.noun}"), kind, frame)
            case p.Difference(left, right, attribute):
                pair, noun = self._pair(left, right, style), ATTRIBUTES[attribute].noun
                frames = (f"{pair}의 {noun} 차이는 얼마인가요?", f"{pair}의 {noun} 차이를 알려 주세요.")
                return (*frames, f"{Word(pair):은} {attach(noun, '이')} 얼마나 차이 나나요?")[frame]
            case p.Exceeds(left, right, attribute, more):
                return _yes_no(*self._two(left, right, style), attribute, more, frame)
            case p.Same(left, right, relation):
                first, second = self._two(left, right, style)
                shared = attach(RELATIONS[relation].same, "이")
                pair = f"{first:과} {second:은}"
                frames = (f"{pair} {shared} 같은가요?", f"{pair} {shared} 같은지 알려 주세요.")
                same = f"{_related(relation, first, 0):과} {_related(relation, second, 0):은} 같은가요?"
                return (*frames, same)[frame]
            case p.PerGroup(of, relation):
                member = NOUNS[SETS[relation][1]]
                grouped = Word(f"{_clause(relation, Word(f'{self._set(of, style)} 각각'), 0)} {member.noun}")
                frames = (
                    f"{grouped:은} 몇 {member.counter}인가요?",
                    f"{grouped:이} 몇 {member.counter}인지 알려 주세요.",
                )
                return (*frames, f"{grouped:은} 몇 {member.counter}이나 되나요?")[frame]
            case p.MostMembers(of, relation):
                verb, counted = SET_RELATIONS[relation][style].verb, Word(NOUNS[SETS[relation][1]].noun)
                kind = NOUNS[kind_of(of, self._world)]
                group, among = self._set(of, style), ("중에서", "가운데")[style]
                return _what(Word(f"{group} {among} {verb} {counted:이} 가장 많은 {kind.noun}"), kind, frame)
        raise ValueError(f"{program} is not a question")

    def _two(self, left: Node, right: Node, style: int) -> tuple[Word, Word]:
        """Return the noun phrases of two compared entities."""
        return self._noun(left, style % 2), self._noun(right, style if isinstance(left, p.Named) else style // 2)

    def _pair(self, left: Node, right: Node, style: int) -> str:
        first, second = self._two(left, right, style)
        return f"{first:과} {second}"

    def _noun(self, node: Node, style: int) -> Word:
        """Return a noun phrase for one entity."""
        match node:
            case p.Named(name):
                return Word(self._titles[name])
            case p.Follow(relation, of):
                return _related(relation, self._noun(of, style), style)
            case p.Superlative(of, attribute, most):
                among = ("중에서", "가운데")[style]
                noun = NOUNS[kind_of(of, self._world)].noun
                return Word(f"{self._set(of, style)} {among} {_degree('가장', attribute, most)} {noun}")
        raise ValueError(f"{node} is not a noun phrase")

    def _set(self, node: Node, style: int) -> Word:
        """Return a noun phrase for a set."""
        noun = NOUNS[kind_of(node, self._world)].noun
        match node:
            case p.Members(relation, of):
                return Word(f"{_clause(relation, self._noun(of, style), style)} {noun}")
            case p.Filter(of, attribute, above, bound):
                condition, among = _condition(attribute, above, bound, style), ("중에서", "가운데")[style]
                if isinstance(of, p.Filter):
                    first = _condition(of.attribute, of.above, of.bound, style, link=True)
                    of, condition = of.of, f"{first} {condition}"
                return Word(f"{self._set(of, style)} {among} {condition} {noun}")
            case p.Both(left, right) | p.Either(left, right):
                return Word(f"{self._joined(left, right, isinstance(node, p.Both), style)} {noun}")
        raise ValueError(f"{node} is not a set")

    def _joined(self, left: p.Members, right: p.Members, both: bool, style: int) -> str:
        """Return the relative clause of an intersection or a union."""
        first, second = self._noun(left.of, style), self._noun(right.of, style)
        clause, other = SET_RELATIONS[left.relation][style], SET_RELATIONS[right.relation][style]
        if left.relation == right.relation and (both or isinstance(right.of, p.Named)):
            pair = Word(f"{first:과} {second}" if both else f"{first:이나} {second}")
            return f"{attach(pair, clause.particle)} {'모두 ' if both else ''}{clause.verb}"
        link = clause.verb_and if both else clause.verb_or
        return f"{attach(first, clause.particle)} {link} {attach(second, other.particle)} {other.verb}"


def _related(relation: str, of: Word, style: int) -> Word:
    return Word(RELATIONS[relation].nouns[style].format(x=of))


def _clause(relation: str, of: Word, style: int) -> str:
    clause = SET_RELATIONS[relation][style]
    return f"{attach(of, clause.particle)} {clause.verb}"


def _what(noun: str, kind: Noun, frame: int) -> str:
    """Return the question what (who, where) something is, in one of three phrasings."""
    ends = (f"{kind.what}인가요?", f"{kind.what}인지 알려 주세요.", f"{kind.what}일까요?")
    return f"{attach(noun, '이' if frame == 1 else '은')} {ends[frame]}"


def _list(noun: Word, kind: Noun, frame: int) -> str:
    """Return the question for all members of a set, in one of three phrasings."""
    frames = (f"{noun:은} {kind.what}인가요?", f"{noun:을} 모두 알려 주세요.", f"{noun:으로}는 {kind.which} 있나요?")
    return frames[frame]


def _degree(adverb: str, attribute: str, more: bool) -> str:
    words = ATTRIBUTES[attribute]
    return f"{words.subject}{adverb} {words.more if more else words.less}"


def _condition(attribute: str, above: bool, bound: int, style: int, link: bool = False) -> str:
    """Return a condition before a noun, or with `link` before another condition."""
    words = ATTRIBUTES[attribute]
    number = Word(f"{bound // 10_000}만 {words.unit}" if bound >= 10_000 else f"{bound}{words.unit}")
    if link:
        return (words.above_and if above else words.below_and)[style].format(n=number)
    return (words.above if above else words.below)[style].format(n=number)


def _yes_no(first: Word, second: Word, attribute: str, more: bool, frame: int) -> str:
    words = ATTRIBUTES[attribute]
    asked, reported, embedded = words.more_ends if more else words.less_ends
    frames = (
        f"{first:은} {second}보다 {words.subject}{asked}?",
        f"{first:이} {second}보다 {words.subject}더 {reported} 것이 사실인가요?",
    )
    return (*frames, f"{first:이} {second}보다 {words.subject}더 {embedded} 알려 주세요.")[frame]
