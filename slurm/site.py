"""What is particular to a site, from `slurm/sites/NAME.toml` or a file of the user's own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.settings import StudyError, build, nearest

FOLDER = Path(__file__).parent / "sites"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Settings of a site; what is empty is left to Slurm's defaults.

    Attributes:
        partition, account, qos, constraint, reservation: as sbatch takes them.
        ranks_per_node: of MPI; 0: all on as few nodes as `cores_per_node` allows.
        cores_per_node: of a node, where ranks_per_node is 0.
        cores_per_rank: a rank computes in one thread and sends in another.
        gpus_per_rank: each rank is bound to its own.
        memory_per_core: such as "2G".
        exclusive: nobody else's job on our nodes; timings want that.
        launcher: what starts the ranks in the job.
        mpi: what srun is told with --mpi (pmix, pmi2, none).
        modules: loaded before anything else.
        setup: lines of shell after that, such as the activation of an environment.
        environment: variables of all that runs.
        data_dir: folder of the data sets, if not $PACELINE_DATA.
        most_minutes: longest time limit that the site allows; what does not fit is requeued and goes on.
        warn_s: how long before the time limit a job is told to stop.
        sbatch: more options, each a line without #SBATCH.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    ranks_per_node: int = 0
    cores_per_node: int = 1
    cores_per_rank: int = 1
    gpus_per_rank: int = 0
    memory_per_core: str = ""
    exclusive: bool = False
    launcher: Literal["mpirun", "srun"] = "mpirun"
    mpi: str = ""
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    data_dir: str = ""
    most_minutes: int = 24 * 60
    warn_s: int = 120
    sbatch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (
            ("ranks_per_node", 0), ("cores_per_node", 1), ("cores_per_rank", 1), ("gpus_per_rank", 0),
            ("most_minutes", 1), ("warn_s", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}: got {getattr(self, name)}")
        if self.mpi and self.launcher != "srun":
            raise ValueError(f'mpi is what srun is told: got mpi={self.mpi!r} with launcher="{self.launcher}"')
        if 60 * self.most_minutes <= self.warn_s:
            raise ValueError(
                f"most_minutes must leave time before warn_s: got {self.most_minutes} minutes and {self.warn_s} s"
            )
        lines = [self.partition, self.account, self.qos, self.constraint, self.reservation, self.memory_per_core]
        for text in (*lines, *self.modules, *self.sbatch, *self.environment):
            if "\n" in text:
                raise ValueError(f"a value must be one line: got {text!r}")

    def nodes(self, ranks: int) -> int:
        """How many nodes so many ranks take."""
        each = self.ranks_per_node or max(1, self.cores_per_node // self.cores_per_rank)
        return -(-ranks // each)


def read(name: str) -> Site:
    """The site of that name, or in that file.

    Raises:
        StudyError: there is none, or its file cannot be used.
    """
    path = Path(name) if name.endswith(".toml") or "/" in name else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in FOLDER.glob("*.toml"))
        raise StudyError(f"--site: no site {name!r}{nearest(name, known)}; or give a file of your own, ./NAME.toml")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"{path}: {' '.join(str(error).split())}") from error
    return build(Site, table, str(path))
