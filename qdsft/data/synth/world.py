"""The fictional world of synthetic questions: entities with names in two languages, relations, numbers.

All names are invented. No two entities of a kind share the value of an attribute, so comparisons and superlatives have
one answer.
"""

from __future__ import annotations

from dataclasses import dataclass

_TABLES = {
    # name in English | in Korean | capital | area in square kilometres
    "country": """
Velmar | 벨마르 | Pasel | 480000
Toria | 토리아 | Almor | 334000
Ostan | 오스탄 | Ulmen | 108000
Karlun | 카를룬 | Hask | 247000
Nordel | 노르델 | Isten | 358000
Morvia | 모르비아 | Rovik | 89000
""",
    # ... | country | population
    "city": """
Lorin | 로린 | Velmar | 614000
Pasel | 파셀 | Velmar | 314000
Quint | 퀸트 | Velmar | 133000
Almor | 알모르 | Toria | 183000
Brisk | 브리스크 | Toria | 539000
Denval | 덴발 | Toria | 523000
Ketra | 케트라 | Ostan | 166000
Ulmen | 울멘 | Ostan | 341000
Sarik | 사리크 | Ostan | 187000
Fenno | 펜노 | Karlun | 659000
Gadel | 가델 | Karlun | 529000
Hask | 하스크 | Karlun | 155000
Isten | 이스텐 | Nordel | 674000
Jorum | 조룸 | Nordel | 221000
Kelby | 켈비 | Nordel | 323000
Rovik | 로비크 | Morvia | 740000
Tamsel | 탐셀 | Morvia | 737000
Wenda | 웬다 | Morvia | 691000
""",
    # ... | country | length in kilometres
    "river": """
the Onda | 온다강 | Velmar | 336
the Tessel | 테셀강 | Toria | 1391
the Brava | 브라바강 | Ostan | 1409
the Lume | 루메강 | Karlun | 1022
the Nerin | 네린강 | Nordel | 311
the Skar | 스카르강 | Morvia | 662
the Vold | 볼드강 | Velmar | 305
the Idra | 이드라강 | Ostan | 1350
the Mossel | 모셀강 | Nordel | 482
the Pirn | 피른강 | Toria | 803
""",
    # ... | born in | born in the year
    "person": """
Mira Voss | 미라 보스 | Ketra | 1948
Tomas Rell | 토마스 렐 | Lorin | 1934
Ana Dorn | 아나 도른 | Ketra | 1938
Oren Kane | 오렌 케인 | Almor | 1942
Lena Marsh | 레나 마시 | Almor | 1952
Ivo Lund | 이보 룬드 | Lorin | 1935
Suri Pike | 수리 파이크 | Tamsel | 1933
Dara Holm | 다라 홀름 | Tamsel | 1931
Kian Voss | 키안 보스 | Denval | 1929
Nell Rell | 넬 렐 | Lorin | 1947
Pavel Dorn | 파벨 도른 | Gadel | 1926
Rosa Kane | 로사 케인 | Gadel | 1951
Emil Marsh | 에밀 마시 | Ketra | 1954
Yuna Lund | 유나 룬드 | Sarik | 1940
Hugo Pike | 휴고 파이크 | Isten | 1939
Iris Holm | 이리스 홀름 | Kelby | 1953
Milo Voss | 밀로 보스 | Almor | 1949
Tessa Rell | 테사 렐 | Kelby | 1945
Bram Dorn | 브람 도른 | Denval | 1928
Cora Kane | 코라 케인 | Isten | 1943
Leon Marsh | 레온 마시 | Pasel | 1925
Vera Lund | 베라 룬드 | Isten | 1941
Finn Pike | 핀 파이크 | Pasel | 1932
Zoe Holm | 조이 홀름 | Sarik | 1930
""",
    # ... | founder | based in | founded in the year | employees
    "company": """
Norvane | 노르반 | Tomas Rell | Isten | 1956 | 3730
Zentro | 젠트로 | Dara Holm | Ketra | 1955 | 2240
Kappel | 카펠 | Zoe Holm | Ketra | 1961 | 1950
Ludex | 루덱스 | Zoe Holm | Almor | 1972 | 3610
Orbin | 오르빈 | Pavel Dorn | Almor | 1971 | 4640
Pexa | 펙사 | Bram Dorn | Lorin | 1962 | 2060
Silvar | 실바르 | Finn Pike | Gadel | 1966 | 1300
Tandel | 탄델 | Kian Voss | Lorin | 1965 | 890
Umbrix | 움브릭스 | Leon Marsh | Rovik | 1957 | 540
Vexon | 벡손 | Suri Pike | Lorin | 1969 | 1020
Yarro | 야로 | Pavel Dorn | Gadel | 1964 | 3490
Crestal | 크레스탈 | Ivo Lund | Rovik | 1960 | 1310
""",
    # ... | director | producer | cast | released in the year | running time in minutes
    "film": """
Harbor | 항구 | Dara Holm | Zentro | Ivo Lund, Hugo Pike, Leon Marsh | 2001 | 142
Lantern | 등불 | Pavel Dorn | Orbin | Oren Kane, Yuna Lund, Bram Dorn | 1997 | 111
Forest | 숲 | Tomas Rell | Pexa | Tomas Rell, Ivo Lund, Bram Dorn | 1988 | 116
Bridge | 다리 | Dara Holm | Kappel | Suri Pike, Milo Voss, Leon Marsh | 2005 | 120
Comet | 혜성 | Milo Voss | Ludex | Ana Dorn, Dara Holm, Yuna Lund | 1975 | 96
Desert | 사막 | Pavel Dorn | Kappel | Pavel Dorn, Hugo Pike, Milo Voss | 1996 | 162
Echo | 메아리 | Lena Marsh | Orbin | Oren Kane, Dara Holm, Hugo Pike | 1984 | 146
Feather | 깃털 | Milo Voss | Orbin | Tomas Rell, Ana Dorn, Finn Pike | 2003 | 161
Glacier | 빙하 | Yuna Lund | Zentro | Mira Voss, Rosa Kane, Zoe Holm | 1987 | 106
Ivory | 상아 | Tomas Rell | Norvane | Tessa Rell, Cora Kane, Vera Lund | 1985 | 167
Jungle | 밀림 | Finn Pike | Ludex | Lena Marsh, Kian Voss, Rosa Kane | 1995 | 145
Kingdom | 왕국 | Yuna Lund | Pexa | Nell Rell, Tessa Rell, Cora Kane | 1986 | 136
Lagoon | 석호 | Finn Pike | Norvane | Ana Dorn, Pavel Dorn, Milo Voss | 1980 | 90
Meadow | 초원 | Cora Kane | Orbin | Ivo Lund, Pavel Dorn, Yuna Lund | 1974 | 101
Nomad | 유목민 | Cora Kane | Zentro | Nell Rell, Emil Marsh, Iris Holm | 1983 | 133
Orchard | 과수원 | Yuna Lund | Pexa | Lena Marsh, Vera Lund, Finn Pike | 1990 | 89
Planet | 행성 | Lena Marsh | Kappel | Mira Voss, Leon Marsh, Zoe Holm | 1976 | 110
Rainbow | 무지개 | Mira Voss | Norvane | Suri Pike, Emil Marsh, Tessa Rell | 2008 | 86
Shadow | 그림자 | Pavel Dorn | Zentro | Lena Marsh, Kian Voss, Finn Pike | 1989 | 155
Thunder | 천둥 | Dara Holm | Pexa | Mira Voss, Dara Holm, Kian Voss | 1991 | 157
Valley | 골짜기 | Lena Marsh | Kappel | Nell Rell, Iris Holm, Vera Lund | 1978 | 153
Winter | 겨울 | Cora Kane | Ludex | Emil Marsh, Bram Dorn, Cora Kane | 2007 | 156
Storm | 폭풍 | Milo Voss | Ludex | Oren Kane, Suri Pike, Zoe Holm | 1977 | 160
Volcano | 화산 | Tomas Rell | Norvane | Tomas Rell, Rosa Kane, Iris Holm | 2000 | 108
""",
    # ... | author | publisher | published in the year | pages
    "book": """
Garden | 정원 | Emil Marsh | Tandel | 1985 | 176
Letter | 편지 | Emil Marsh | Crestal | 1996 | 175
Tower | 탑 | Ana Dorn | Yarro | 2007 | 375
Mirror | 거울 | Iris Holm | Crestal | 2001 | 311
Anvil | 모루 | Iris Holm | Vexon | 2009 | 459
Basket | 바구니 | Nell Rell | Yarro | 1993 | 483
Candle | 촛불 | Zoe Holm | Yarro | 1984 | 390
Diary | 일기 | Suri Pike | Tandel | 2008 | 455
Engine | 기관차 | Ana Dorn | Silvar | 2006 | 156
Flute | 피리 | Nell Rell | Silvar | 1988 | 380
Glove | 장갑 | Nell Rell | Vexon | 1973 | 436
Hammer | 망치 | Vera Lund | Umbrix | 2004 | 394
Inkwell | 잉크병 | Bram Dorn | Silvar | 1986 | 416
Jewel | 보석 | Vera Lund | Tandel | 1980 | 115
Compass | 나침반 | Bram Dorn | Tandel | 1998 | 178
Ladder | 사다리 | Suri Pike | Umbrix | 2005 | 136
Map | 지도 | Ana Dorn | Umbrix | 1974 | 351
Needle | 바늘 | Suri Pike | Silvar | 1994 | 221
Pearl | 진주 | Emil Marsh | Vexon | 1995 | 598
Ring | 반지 | Bram Dorn | Crestal | 1987 | 588
""",
}
_COLUMNS = {
    "country": ("capital", "area"),
    "city": ("country", "population"),
    "river": ("country", "length"),
    "person": ("birthplace", "born"),
    "company": ("founder", "base", "founded", "staff"),
    "film": ("director", "producer", "cast", "released", "minutes"),
    "book": ("author", "publisher", "published", "pages"),
}

RELATIONS = {
    "capital": ("country", "city"),
    "country": ("city", "country"),
    "birthplace": ("person", "city"),
    "founder": ("company", "person"),
    "base": ("company", "city"),
    "director": ("film", "person"),
    "producer": ("film", "company"),
    "author": ("book", "person"),
    "publisher": ("book", "company"),
}
"""Relation with one answer -> kind of its subject (rivers have a country, too), kind of the answer."""

ATTRIBUTES = {
    "area": "country",
    "population": "city",
    "length": "river",
    "born": "person",
    "founded": "company",
    "staff": "company",
    "released": "film",
    "minutes": "film",
    "published": "book",
    "pages": "book",
}
"""Number -> kind of its owner. Units: km2, people, km, years, years, people, years, minutes, years, pages."""

SETS = {
    "directed": ("person", "film", "director"),
    "starring": ("person", "film", "cast"),
    "produced": ("company", "film", "producer"),
    "written": ("person", "book", "author"),
    "issued": ("company", "book", "publisher"),
    "founded_by": ("person", "company", "founder"),
    "based_in": ("city", "company", "base"),
    "born_in": ("city", "person", "birthplace"),
    "cities_in": ("country", "city", "country"),
    "rivers_in": ("country", "river", "country"),
    "cast_of": ("film", "person", "cast"),
}
"""Relation with several answers -> kind of its subject, kind of the answers, column that holds it."""


@dataclass(frozen=True, slots=True)
class World:
    """All facts. An entity is identified by its English name."""

    kinds: dict[str, str]
    """Entity -> kind, in the order of the tables."""
    korean: dict[str, str]
    """Entity -> name in Korean."""
    follow: dict[str, dict[str, str]]
    """Relation -> entity -> entity."""
    values: dict[str, dict[str, int]]
    """Attribute -> entity -> number."""
    members: dict[str, dict[str, tuple[str, ...]]]
    """Set relation -> entity -> entities in the order of the tables; an entity without any is absent."""


def load_world() -> World:
    """Read the tables."""
    world = World({}, {}, {name: {} for name in RELATIONS}, {name: {} for name in ATTRIBUTES}, {})
    cells: dict[str, dict[str, dict[str, str]]] = {}
    for kind, table in _TABLES.items():
        for line in table.strip().split("\n"):
            name, korean, *rest = line.split(" | ")
            world.kinds[name], world.korean[name] = kind, korean
            row = dict(zip(_COLUMNS[kind], rest, strict=True))
            cells.setdefault(kind, {})[name] = row
            for column, cell in row.items():
                if column in RELATIONS:
                    world.follow[column][name] = cell
                elif column in ATTRIBUTES:
                    world.values[column][name] = int(cell)
    for relation, (owner, member, column) in SETS.items():
        world.members[relation] = _members(cells, owner, member, column)
    return world


def _members(
    cells: dict[str, dict[str, dict[str, str]]], owner: str, member: str, column: str
) -> dict[str, tuple[str, ...]]:
    """Return entity of kind `owner` -> the entities of kind `member` that belong to it."""
    if owner == "film":  # the cast is in the film's own row
        return {name: tuple(row[column].split(", ")) for name, row in cells[owner].items()}
    found: dict[str, list[str]] = {name: [] for name in cells[owner]}
    for name, row in cells[member].items():
        for cell in row[column].split(", "):
            found[cell].append(name)
    return {name: tuple(names) for name, names in found.items() if names}
