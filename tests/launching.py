"""Real ranks: one process each, which meet over gloo on this machine."""
import contextlib
import os
import random
import socket
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def free_ports(count):
    """Return ports that are free until somebody takes them.

    None that the system gives to whoever asks for any (from 32768 on, on
    Linux): another test may be given it meanwhile.
    """
    ports, draw = [], random.SystemRandom()
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = draw.randrange(20000, 32768)
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(('127.0.0.1', port))
                ports.append(port)
    return ports


def launch(worker, *arguments, world_size=2, store_port=None):
    """Start the ranks of a worker, and return their processes.

    Rank 0 has the store by which they meet, unless its port is given: then
    another process has it, as with torchrun.
    """
    port = store_port or free_ports(1)[0]
    ranks = []
    for rank in range(world_size):
        environment = dict(
            os.environ,
            RANK=str(rank),
            WORLD_SIZE=str(world_size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
            TORCHELASTIC_USE_AGENT_STORE=str(store_port is not None),
            # torch 2.0 asks for it, too
            TORCHELASTIC_RESTART_COUNT='0',
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


def leave():
    """End a rank, when all have come here.

    Not as the interpreter does: seldom, a thread of gloo aborts it then
    (torch 2.12: "terminate called without an active exception").
    """
    from torch import distributed as dist
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
