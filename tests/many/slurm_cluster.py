"""A real Slurm of one machine for tests: munged, slurmctld and slurmd on free ports, all state in one folder.

Started and stopped by the fixture of `test_slurm_cluster.py`; needs root, as slurmd does.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
START_S = 120
"""For the daemons on a machine that is busy with other things."""
CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=3
CommunicationParameters=NoAddrCache
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
JobRequeue=1
KillWait=10
MinJobAge=3600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 Sockets=2 CoresPerSocket=1 ThreadsPerCore=1 State=UNKNOWN
PartitionName=work Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """What there is not that a cluster needs, in words; "" where all is there."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"{', '.join(absent)} missing (make programs)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class Cluster:
    """The daemons. environment: with which Slurm's programs find them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, list[subprocess.Popen[bytes]]()
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def start(self) -> None:
        """Start the three daemons and wait until the node is idle."""
        folder, host = self.folder, socket.gethostname().split(".")[0]
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, ports=_free(2)))
        files = {
            "key-file": "key",
            "socket": "sock",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        munge = [f"--{option}={folder}/munge.{end}" for option, end in files.items()]
        self._daemon("munged", "--foreground", "--force", *munge)
        self._until(lambda: (folder / "munge.sock").exists())
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", host)
        self._until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"))

    def stop(self) -> None:
        """End what was started, the last first."""
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, *words: str) -> str:
        """What one of Slurm's programs prints, also where it fails."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False
        )  # fmt: skip
        return done.stdout + done.stderr

    def told(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a task."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def _daemon(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("wb") as stream:
            self.running.append(
                subprocess.Popen(words, env=self.environment, stdout=stream, stderr=subprocess.STDOUT)
            )  # fmt: skip

    def _until(self, there) -> None:
        end = time.monotonic() + START_S
        while not there():
            ended = [p.args for p in self.running if p.poll() is not None]
            assert not ended, f"{ended}: {self.logs()}"
            assert time.monotonic() < end, self.logs()
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of what the daemons printed and wrote."""
        files = (*self.folder.glob("*.out"), *self.folder.glob("*.log"))
        return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-1500:]}" for f in files)


def _free(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
