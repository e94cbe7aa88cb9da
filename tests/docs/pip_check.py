"""Stands in for pip: says whether the package has the extras, no more."""
import configparser
import os
import sys

from packaging.requirements import Requirement

NAME = 'mmcv_ckpt_hooks'


def main(command, *arguments):
    """Check the arguments of ``pip install``; return what is wrong, or None.
    """
    if command != 'install':
        return f'no stand-in for "pip {command}"'
    config = configparser.ConfigParser()
    config.read(os.path.join(os.environ['REPOSITORY'], 'setup.cfg'))
    extras = set(config['options.extras_require'])
    for argument in arguments:
        if argument.startswith('-'):
            continue
        if argument.startswith('.'):  # this directory
            argument = NAME + argument[1:]
        wanted = Requirement(argument)
        if wanted.name == NAME and not wanted.extras <= extras:
            return f'{NAME} has no extra {sorted(wanted.extras - extras)}'
    return None


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
