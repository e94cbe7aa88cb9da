"""What is done with a block, by its language."""
import ast
import json
import sys
from pathlib import Path

import doc_commands
import doc_configs
import yaml
from doc_blocks import ROOT

#: What in a picture or a message would be code.
_CODE = (ast.Assign, ast.AugAssign, ast.Call, ast.ClassDef, ast.FunctionDef,
         ast.Import, ast.ImportFrom)


def python(stage, block):
    """A fragment of a config is built; other code is run here.

    Code with a name of its own (``file``) is for a command to run.
    """
    text = stage.here(block.text)
    where = f'{block.page}:{block.line}'
    tree = ast.parse(text, where)
    if doc_configs.is_config(text):
        config(stage, block, text)
    elif not block.file:
        ast.increment_lineno(tree, block.line)
        with stage.entered():
            exec(compile(tree, block.page, 'exec'), stage.names)


def config(stage, block, text):
    """Here, or in a process of its own where a scene brings modules."""
    has_base = block.file and '_base_' in text
    path = Path(block.file if has_base else f'fragment_{block.line}.py')
    if stage.modules:
        command = [sys.executable, doc_configs.__file__, text, path]
        status, printed = doc_commands.in_shell(command, stage.directory,
                                                stage.environment())
        assert status == 0, f'ended with {status}:\n{printed}'
        return
    with stage.entered():
        doc_configs.check(text, path, doc_configs.BUCKET in stage.replaced)


def console(stage, block):
    """Commands are run, and what they print is compared."""
    commands = doc_commands.parse(block.text)
    assert commands, 'no command, behind "$ "'
    results = doc_commands.run(
        [one._replace(text=stage.here(one.text)) for one in commands],
        stage.directory, stage.environment())
    results = [(status, stage.there('\n'.join(lines)).splitlines())
               for status, lines in results]
    wrong = doc_commands.complaints(commands, results)
    assert not wrong, '\n\n'.join(wrong)


def script(stage, block):
    """A script must run to its end; one with a name is run by a command."""
    assert not any(
        line.startswith(doc_commands.PROMPT)
        for line in block.text.splitlines()), 'a prompt: that is ```console'
    command = [
        'bash', '-n' if block.file else '-eu', '-o', 'pipefail', '-c',
        stage.here(block.text)
    ]
    status, printed = doc_commands.in_shell(command, stage.directory,
                                            stage.environment())
    assert status == 0, f'ended with {status}:\n{printed}'


def text(stage, block):
    """A picture, a layout, or a log that another test compares."""
    if block.logged_by:
        test = (ROOT / block.logged_by).read_text()
        assert f"logged('{block.page}', __file__)" in test, \
            f'{block.logged_by} does not compare it'
        return
    for line in block.text.splitlines():
        assert not line.startswith((doc_commands.PROMPT, '>>> ')), \
            f'a command in a text: {line}'
    try:
        tree = ast.parse(block.text)
    except SyntaxError:
        return
    assert not any(isinstance(one, _CODE) for one in ast.walk(tree)), \
        'this is Python'


def read_json(stage, block):
    json.loads(block.text)


def read_yaml(stage, block):
    yaml.safe_load(block.text)


KINDS = dict(
    python=python,
    console=console,
    bash=script,
    sh=script,
    text=text,
    json=read_json,
    yaml=read_yaml)
