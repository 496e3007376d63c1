"""Our own rows under another name, for those who have CSV files: `scan` tells formats apart by the suffix."""

from __future__ import annotations

from qdsft.data.formats.format import Format, Reader
from qdsft.data.readers import scan

FORMAT = Format("csv", Reader(scan, file="the same as `jsonl`", steps="unchanged", columns="kept"))
