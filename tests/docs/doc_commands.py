"""Runs the commands of a block in a shell."""
import contextlib
import os
import re
import signal
import subprocess
import uuid
from collections import namedtuple

from doc_output import first_difference

PROMPT = '$ '
#: For all commands of a block together.
TIMEOUT_SECS = 240

#: What a block says of a command: status is what it must end with.
Command = namedtuple('Command', 'text status expected')


def parse(text):
    """Return the commands of a ``console`` block with their output.

    A command goes on in the next line behind a backslash. It must end well,
    but for one that ``# exit code N`` stands behind, or ``$ echo $?`` below.

    Raises:
        ValueError: If something stands before the first command.
    """
    commands, lines = [], text.splitlines()
    while lines:
        line = lines.pop(0)
        if not line.startswith(PROMPT):
            if not commands:
                raise ValueError(f'no command, behind "$ ", before: {line}')
            commands[-1].expected.append(line)
            continue
        command = line[len(PROMPT):]
        while command.endswith('\\'):
            command += '\n' + lines.pop(0)
        told = re.search(r'# exit code (\d+)', command)
        commands.append(Command(command, int(told[1]) if told else 0, []))
    for index, following in enumerate(commands[1:]):
        if following.text.startswith('echo $?'):
            commands[index] = commands[index]._replace(status=None)
    return commands


def run(commands, directory, environment):
    """Run commands in one shell; return status and lines of each."""
    mark = uuid.uuid4().hex
    script = '\n'.join(
        f'{command.text}\n__status=$?; printf "\\n{mark} %d\\n" $__status; '
        '(exit $__status)' for command in commands)
    output = in_shell(['bash', '-c', script], directory, environment)[1]
    pieces = re.split(rf'\n{mark} (\d+)\n', output)
    results = [(int(status), text.splitlines())
               for text, status in zip(pieces[::2], pieces[1::2])]
    if len(results) < len(commands):
        raise AssertionError(
            f'the shell ended in "{commands[len(results)].text}":\n'
            f'{pieces[-1]}')
    return results


def in_shell(command, directory, environment):
    """Run a command; return its status and what it printed.

    What it left running in the background is ended.
    """
    log = directory / f'.output-{uuid.uuid4().hex}'
    with open(log, 'wb') as file:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True)
        try:
            status = process.wait(TIMEOUT_SECS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_text(errors='replace')
    log.unlink()
    return status, text


def complaints(commands, results):
    """Return what is not as the block says, as texts."""
    wrong = []
    for command, (status, found) in zip(commands, results):
        difference = first_difference(command.expected, found)
        printed = '\n'.join(found)
        if difference is not None:
            wrong.append(f'$ {command.text}\nthe page says: {difference}\n'
                         f'it printed:\n{printed}')
        if command.status not in (None, status):
            wrong.append(f'$ {command.text}\nended with {status}, the page '
                         f'says {command.status}; it printed:\n{printed}')
    return wrong
