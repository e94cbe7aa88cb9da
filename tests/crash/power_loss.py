"""What a file system may leave of a recorded run after a power cut.

The model is the weakest that POSIX allows, and covers those of the ALICE study
(Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014):

- ``fsync`` of a file makes its data durable, and not its name; ``fsync`` of a
  directory makes its entries durable, and not the data of its files.
- Data that was written since the last ``fsync`` of its file may be there or
  not, each write for itself, in any order; a write may be torn at any byte;
  the size may be on the disk and the data not, which reads as zeros.
- Each change of a directory (create, rename, link, symlink, unlink, mkdir)
  since its last ``fsync`` may be there or not, each for itself, in any order:
  a later one without an earlier one, too. A rename inside one
  directory is atomic.
- Nothing else changes: what is durable stays, and disks do not lie.

File systems that order more (ext4's and XFS's journals) leave a part of these
states. A cut is looked at after every operation. Where there are more states
than ``limit``, the extreme ones (everything, nothing, one change alone, all
but one) and a seeded sample are taken.
"""
import hashlib
import itertools
import os
import random

_BLOCK_BYTES = 4096


class Node:
    """A file, a directory or a symlink, by whatever names it has.

    Attributes:
        kind (str): ``file``, ``directory`` or ``symlink``.
        target (str): Of a symlink.
        durable (bytes): Content of a file that is on the disk.
        writes (list): Of a file since then: ``(offset, data)``; data None
            means cut to that size.
        entries (dict): Nodes of a directory by name, as the process sees it.
        durable_entries (dict): The same on the disk.
        changes (list): Of a directory since then: each a dict of names to
            their new node, None if the name goes.
    """

    def __init__(self, kind, target='', durable=b''):
        self.kind = kind
        self.target = target
        self.durable = durable
        self.writes = []
        self.entries = {}
        self.durable_entries = {}
        self.changes = []

    def content(self):
        """What the process reads."""
        return _written(self.durable, self.writes)

    def change(self, change):
        self.entries = _changed(self.entries, [change])
        self.changes.append(change)

    def sync(self):
        self.durable, self.writes = self.content(), []
        self.durable_entries, self.changes = dict(self.entries), []


class Disk:
    """The files below one directory, and what of them is durable.

    Args:
        root (str): That directory; what is there now is durable.
    """

    def __init__(self, root):
        self._root = str(root)
        self._files = {}
        self._by_inode = {}
        self.top = self._taken_over(self._root)

    def _taken_over(self, path):
        status = os.lstat(path)
        known = self._by_inode.get(status.st_ino)
        if known is not None:
            return known  # a hard link
        if os.path.islink(path):
            node = Node('symlink', os.readlink(path))
        elif os.path.isdir(path):
            node = Node('directory')
            for name in sorted(os.listdir(path)):
                node.entries[name] = self._taken_over(os.path.join(path, name))
            node.sync()
        else:
            with open(path, 'rb') as file:
                node = Node('file', durable=file.read())
        self._by_inode[status.st_ino] = node
        return node

    def apply(self, operation):
        """Do one recorded operation."""
        getattr(self, f'_do_{operation.kind}')(operation)

    def _place(self, path):
        """Return the directory of a path and the name in it."""
        relative = os.path.relpath(path, self._root)
        if relative == '.':
            return None, '.'
        *parents, name = relative.split(os.sep)
        node = self.top
        for parent in parents:
            node = node.entries[parent]
        return node, name

    def _do_mark(self, operation):
        pass

    def _do_open(self, operation):
        directory, name = self._place(operation.path)
        node = self.top if directory is None else directory.entries.get(name)
        if node is None:
            assert operation.flags & os.O_CREAT, operation
            node = Node('file')
            directory.change({name: node})
        elif operation.flags & os.O_TRUNC:
            node.writes.append((0, None))
        self._files[operation.fd] = node

    def _do_write(self, operation):
        self._files[operation.fd].writes.append(
            (operation.offset, operation.data))

    def _do_ftruncate(self, operation):
        self._files[operation.fd].writes.append((operation.offset, None))

    def _do_truncate(self, operation):
        directory, name = self._place(operation.path)
        directory.entries[name].writes.append((operation.offset, None))

    def _do_fsync(self, operation):
        self._files[operation.fd].sync()

    def _do_close(self, operation):
        del self._files[operation.fd]

    def _do_mkdir(self, operation):
        directory, name = self._place(operation.path)
        directory.change({name: Node('directory')})

    def _do_symlink(self, operation):
        directory, name = self._place(operation.path)
        directory.change({name: Node('symlink', operation.other)})

    def _do_unlink(self, operation):
        directory, name = self._place(operation.path)
        directory.change({name: None})

    _do_rmdir = _do_unlink

    def _do_link(self, operation):
        source, old = self._place(operation.path)
        directory, name = self._place(operation.other)
        directory.change({name: source.entries[old]})

    def _do_rename(self, operation):
        source, old = self._place(operation.path)
        directory, name = self._place(operation.other)
        node = source.entries[old]
        if directory.entries.get(name) is node:
            return  # POSIX: two links to one file
        if source is directory:
            directory.change({old: None, name: node})
        else:  # no file system promises that both are there, or neither
            directory.change({name: node})
            source.change({old: None})

    def read(self, path):
        """Content of a file as the process sees it."""
        directory, name = self._place(path)
        return directory.entries[name].content()

    # -- states ------------------------------------------------------------

    def now(self):
        """What the process sees: relative paths to nodes and contents."""
        state = {}
        _walk(self.top, lambda node: node.entries, Node.content, '', state)
        return state

    def states(self, limit, seed=0):
        """Yield what a cut at this moment may leave, at most ``limit``."""
        directories = _directories(self.top)
        choices = [_subsets(len(node.changes)) for node in directories]
        files = sorted({
            id(node): node
            for directory in directories
            for node in _all_nodes(directory) if node.writes
        }.items())
        files = [node for _, node in files]
        choices += [_contents(node) for node in files]
        for chosen in _combinations(choices, limit, random.Random(seed)):
            left = {
                id(node):
                _changed(node.durable_entries,
                         [node.changes[index] for index in subset])
                for node, subset in zip(directories, chosen)
            }
            contents = {
                id(node): content
                for node, content in zip(files, chosen[len(directories):])
            }
            state = {}
            _walk(self.top, lambda node: left.get(id(node), {}),
                  lambda node: contents.get(id(node), node.durable), '', state)
            yield state


def _walk(directory, entries_of, content_of, prefix, state):
    for name, node in sorted(entries_of(directory).items()):
        path = prefix + name
        if node.kind == 'directory':
            state[path] = (node, b'')
            _walk(node, entries_of, content_of, path + '/', state)
        elif node.kind == 'symlink':
            state[path] = (node, node.target.encode())
        else:
            state[path] = (node, content_of(node))


def _all_nodes(directory):
    nodes = list(directory.durable_entries.values())
    for change in directory.changes:
        nodes += [node for node in change.values() if node is not None]
    return nodes


def _directories(top):
    found, left = [], [top]
    while left:
        node = left.pop(0)
        if node not in found:
            found.append(node)
            left += [
                child for child in _all_nodes(node)
                if child.kind == 'directory'
            ]
    return found


def _changed(entries, changes):
    entries = dict(entries)
    for change in changes:
        for name, node in change.items():
            if node is None:
                entries.pop(name, None)
            else:
                entries[name] = node
    return entries


def _written(content, writes):
    content = bytearray(content)
    for offset, data in writes:
        if data is None:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
        else:
            content.extend(bytes(max(0, offset - len(content))))
            content[offset:offset + len(data)] = data
    return bytes(content)


def _subsets(number):
    """Which of so many changes are there; all of them first, none second."""
    everything = tuple(range(number))
    found = [everything, ()]
    found += [(index, ) for index in everything]
    found += [
        everything[:index] + everything[index + 1:] for index in everything
    ]
    if number <= 8:
        found += [
            subset for size in range(number)
            for subset in itertools.combinations(everything, size)
        ]
    return list(dict.fromkeys(found))


def _contents(node):
    """What may be left of a file with unsynced writes; all of it first."""
    whole = node.content()
    last_offset, last = node.writes[-1]
    found = [whole, node.durable]
    for subset in _subsets(len(node.writes)):
        found.append(
            _written(node.durable, [node.writes[index] for index in subset]))
    for size in _torn_sizes(len(last or b'')):
        found.append(
            _written(node.durable,
                     node.writes[:-1] + [(last_offset, last[:size])]))
    # sizes are on the disk, data is not
    blank = [(offset, data and bytes(len(data)))
             for offset, data in node.writes]
    found.append(_written(node.durable, blank))
    found.append(_written(node.durable, node.writes[:-1] + blank[-1:]))
    middle = len(whole) // 2
    found.append(whole[:middle] + bytes(len(whole) - middle))
    return list(dict.fromkeys(found))


def _torn_sizes(size):
    sizes = {1, size // 2, size - 1, *range(_BLOCK_BYTES, size, _BLOCK_BYTES)}
    return sorted(one for one in sizes if 0 < one < size)


def _combinations(choices, limit, generator):
    """Yield one of each list, in all ways or in ``limit`` of them."""
    total = 1
    for options in choices:
        total *= len(options)
    if total <= limit:
        yield from itertools.product(*choices)
        return
    seen = set()
    extremes = [[0] * len(choices), [min(1, len(o) - 1) for o in choices]]
    for place, options in enumerate(choices):
        for index in range(len(options)):
            extremes.append(extremes[0][:place] + [index] +
                            extremes[0][place + 1:])
    drawn = ([generator.randrange(len(options)) for options in choices]
             for _ in itertools.count())
    for picked in itertools.chain(extremes, drawn):
        if len(seen) >= limit:
            return
        if tuple(picked) not in seen:
            seen.add(tuple(picked))
            yield [options[index] for options, index in zip(choices, picked)]


def materialise(state, directory):
    """Create the files of a state; hard links are links again."""
    first_names = {}
    for path, (node, content) in state.items():
        target = os.path.join(directory, path)
        if node.kind == 'directory':
            os.mkdir(target)
        elif node.kind == 'symlink':
            os.symlink(node.target, target)
        elif id(node) in first_names:
            os.link(first_names[id(node)], target)
        else:
            first_names[id(node)] = target
            with open(target, 'wb') as file:
                file.write(content)


def contents(state):
    """Return kinds and contents by path: what a reader can tell apart."""
    return {
        path: (node.kind, content)
        for path, (node, content) in state.items()
    }


def key_of(state):
    """Return what two states have in common that are the same on a disk.

    Names of unfinished files are random; they count only by how many there
    are.
    """
    parts = []
    for path, (node, content) in state.items():
        parts.append((path.partition('.tmp-')[0], node.kind,
                      hashlib.sha256(content).hexdigest()))
    return tuple(sorted(parts))
