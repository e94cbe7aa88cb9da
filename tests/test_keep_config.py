"""``keep=dict(...)``: every value checked when the hook is built."""
import pytest
from mmcv import Config
from mmcv.runner import HOOKS
from mmcv.utils import build_from_cfg

from mmcv_ckpt_hooks.config import parse_options
from mmcv_ckpt_hooks.errors import ConfigError

REFUSED = [
    # given, words that the message must have
    (dict(last=0), ('keep.last=0', '-1 for all')),
    (dict(last=-3), ('keep.last=-3', )),
    (dict(best=0), ('keep.best=0', 'leave it out')),
    (dict(best=-1), ('keep.best=-1', )),
    (dict(best='3'), ('keep.best', 'an int')),
    (dict(best=True), ('keep.best', 'an int')),
    (dict(best=2.0), ('keep.best', 'an int')),
    (dict(every=0), ('keep.every=0', 'at least 1')),
    (dict(every=-4), ('keep.every=-4', )),
    # the best of what?
    (dict(monitor='mIoU'), ('keep.monitor', 'keep.best')),
    (dict(last=2, rule='less'), ('keep.rule', 'keep.best')),
    (dict(best=1, monitor=3), ('keep.monitor', 'a metric')),
    (dict(best=1, monitor=''), ('keep.monitor', 'a metric')),
    (dict(best=1, monitor=[]), ('keep.monitor', 'a metric')),
    (dict(best=1, monitor=['mIoU', 3]), ('keep.monitor', 'a metric')),
    (dict(best=1, monitor=['mIoU', 'aAcc', 'mIoU']), ("'mIoU'", 'twice')),
    (dict(best=1, monitor=['auto', 'mIoU']), ('auto', 'one metric')),
    (dict(best=1, rule='greatr'), ("did you mean 'greater'", )),
    (dict(best=1, rule='max'), ("'greater' or 'less'", )),
    (dict(best=1, monitor=['a', 'b'], rule=['less']), ('1 entry', '2')),
    (dict(best=1, monitor=['a'], rule=['lesser']), ("did you mean 'less'", )),
    (dict(best=1, monitor=['mIoU'],
          rule=dict(mIuO='less')), ("'mIuO'", "did you mean 'mIoU'")),
    (dict(best=1, monitor='mIoU', rule=dict(mIoU=1)), ("'less'", )),
    (dict(best=1, rule=['less']), ('keep.rule', 'keep.monitor')),
    (dict(best=1, monitor='auto',
          rule=dict(auto='less')), ('keep.rule', 'keep.monitor')),
    (dict(bytes=0), ('keep.bytes=0', 'positive')),
    (dict(bytes=-1), ('keep.bytes=-1', 'positive')),
    (dict(bytes=1.5), ('keep.bytes', "'20GB'")),
    (dict(bytes=True), ('keep.bytes', "'20GB'")),
    (dict(bytes='0GB'), ('positive', )),
    (dict(bytes='20'), ("'20GB'", )),
    # 10**9 or 2**30?
    (dict(bytes='20G'), ("'20GiB'", )),
    (dict(bytes='many GB'), ("'20GB'", )),
    (dict(bytes='-3GB'), ("'20GB'", )),
    (dict(bytes=''), ("'20GB'", )),
    # all is kept already
    (dict(last=-1, every=4), ('keep.every', 'keep.last=-1')),
    (dict(last=-1, bytes='1GB'), ('keep.bytes', 'keep.last=-1')),
    (dict(besst=3), ("did you mean 'keep.best'", )),
    (dict(monitors='mIoU'), ("did you mean 'keep.monitor'", )),
    (dict(max_bytes='1GB'), ("did you mean 'keep.bytes'", )),
]


@pytest.mark.parametrize('keep, told', REFUSED, ids=str)
def test_a_mistake_is_refused_and_told(keep, told):
    with pytest.raises(ConfigError) as caught:
        build_from_cfg(dict(type='DurableCheckpointHook', keep=keep), HOOKS)
    for word in told:
        assert word in str(caught.value)


SIZES = [
    (1, 1),
    (50 * 10**9, 50 * 10**9),
    ('500B', 500),
    ('20GB', 20 * 10**9),
    ('20 gb', 20 * 10**9),
    ('1.5TB', 15 * 10**11),
    ('2MiB', 2 << 20),
    (' 3 KiB ', 3 << 10),
]


@pytest.mark.parametrize('given, expected', SIZES)
def test_a_size_is_a_number_or_a_text_with_a_unit(given, expected):
    assert parse_options(dict(keep=dict(bytes=given))).keep.bytes == expected


RULES = [
    # monitor, rule, what is kept of them
    ('mIoU', 'less', (('*', 'less'), )),
    (['a', 'b'], 'less', (('*', 'less'), )),
    (['a', 'b'], ['less', 'greater'], (('a', 'less'), ('b', 'greater'))),
    (('a', 'b'), dict(b='less'), (('b', 'less'), )),
    (['bbox/mAP'], {
        'bbox/mAP': 'less'
    }, (('bbox/mAP', 'less'), )),
    ('auto', 'less', (('*', 'less'), )),
]


@pytest.mark.parametrize('monitor, rule, expected', RULES)
def test_a_rule_is_one_or_a_list_or_a_dict(monitor, rule, expected):
    keep = parse_options(
        dict(keep=dict(best=1, monitor=monitor, rule=rule))).keep
    assert keep.rule == expected
    assert keep.monitor == ((monitor, )
                            if isinstance(monitor, str) else tuple(monitor))


LAST = [
    # given, how many of the last are kept
    (dict(), None),
    (dict(keep=dict(last=3)), 3),
    (dict(keep=dict(last=-1)), None),
    # whoever names what to keep does not want all the others
    (dict(keep=dict(best=3)), 1),
    (dict(keep=dict(every=3)), 1),
    (dict(keep=dict(bytes='1GB')), 1),
    (dict(keep=dict(best=3), max_keep_ckpts=2), 2),
    (dict(keep=dict(best=3), max_keep_ckpts=-1), 1),
    (dict(keep=dict(best=3, last=-1)), None),
    (dict(keep=dict(best=3, last=None)), 1),
]


@pytest.mark.parametrize('given, expected', LAST)
def test_how_many_of_the_last_stay(given, expected):
    assert parse_options(given).keep_last == expected


def test_what_mmcv_reads_from_a_file_is_accepted():
    config = Config.fromstring(
        "hook = dict(type='DurableCheckpointHook', keep=dict(last=2, best=3, "
        "monitor=['mIoU', 'IoU.cell'], rule={'IoU.cell': 'greater'}, "
        "every=4, bytes='1GB'))", '.py')
    keep = build_from_cfg(config.hook, HOOKS).options.keep
    assert keep.monitor == ('mIoU', 'IoU.cell')
    assert keep.rule == (('IoU.cell', 'greater'), )
    assert (keep.last, keep.best, keep.every, keep.bytes) == (2, 3, 4, 10**9)
