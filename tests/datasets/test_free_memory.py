"""What is free is the least of the machine's memory and of the control groups that hold the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from restore.datasets.free_memory import free_bytes

MACHINE = 10 * 2**30


def system(root: Path, cgroup: str, **files: object) -> Path:
    """A root with a machine's account, the process's groups and their files (paths with / as __)."""
    for name, text in {
        "proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {MACHINE // 1024} kB\n",
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return root


OLD = "4:cpu,memory:/job/step\n0::/\n"
NEW = "0::/job/step\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "free"),
    [
        (NEW, {}, MACHINE),
        # the job's own limit, not the step's; dropped pages of files are free
        (NEW, {"job/memory.max": 5000, "job/memory.current": 3000, "job/step/memory.max": "max",
               "job/step/memory.current": 3000, "job/memory.stat": "anon 1\ninactive_file 500\n"}, 2500),
        (NEW, {"memory.max": 700, "memory.current": 900}, 0),
        (OLD, {"memory/job/step/memory.limit_in_bytes": 2**33, "memory/job/step/memory.usage_in_bytes": 2**32,
               "memory/job/step/memory.stat": "total_inactive_file 4096\n"}, 2**32 + 4096),
        (OLD, {"memory/job/memory.limit_in_bytes": 2**63 - 4096, "memory/job/memory.usage_in_bytes": 5}, MACHINE),
        # a path as another namespace has it is no way up
        ("0::/../../x\n", {"memory.max": 900, "memory.current": 200}, 700),
    ],
    ids=["none", "parent", "beyond", "first version", "unlimited", "namespace"],
)  # fmt: skip
def test_the_narrowest_group_counts(
    tmp_path: Path, cgroup: str, files: dict[str, object], free: int
) -> None:
    assert free_bytes(system(tmp_path, cgroup, **files)) == free


def test_a_system_without_accounts_says_nothing(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) is None
