"""Real ranks: one process each, which meet over gloo on this machine."""
import os
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def launch(worker, *arguments, world_size=2):
    """Start the ranks of a worker, and return their processes."""
    port = free_port()
    ranks = []
    for rank in range(world_size):
        environment = dict(
            os.environ,
            RANK=str(rank),
            WORLD_SIZE=str(world_size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
            OMP_NUM_THREADS='1')
        command = [
            sys.executable,
            os.path.join(HERE, worker),
            *(str(argument) for argument in arguments)
        ]
        ranks.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True))
    return ranks


def run_to_the_end(worker, *arguments, world_size=2):
    """Run ranks; each process has its ``output`` then."""
    ranks = launch(worker, *arguments, world_size=world_size)
    for rank in ranks:
        rank.output = rank.communicate(timeout=180)[0]
    return ranks
