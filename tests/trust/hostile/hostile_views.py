"""Tensors whose offsets, sizes, strides and types do not fit their storage: what would read its neighbours."""

import struct

from hostile_corpus import accepted, refused
from hostile_makers import STORAGE, checkpoint, mapping, sizes, storage, view

from prunecli.formats.pickles.nodes import Call, Global, ListNode, Persistent, TupleNode

_GOOD = view(storage())


@refused(4, "behind the end of its storage 0", family="view", foreign=4)
def longer_than_its_storage() -> bytes:
    return checkpoint(mapping(w=view(storage(), 1)))


@refused(4, "behind the end of its storage 0", family="view", foreign=4)
def far_longer() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=sizes(1 << 40, 2))))


@refused(4, "behind the end", family="view", foreign=4)
def stride_too_large() -> bytes:
    return checkpoint(mapping(w=view(storage(), stride=sizes(3, 1))))


@refused(4, "more elements than can be counted", family="view", foreign=4)
def more_elements_than_fit_63_bits() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=sizes(1 << 40, 1 << 40), stride=sizes(0, 0))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def negative_offset() -> bytes:
    return checkpoint(mapping(w=view(storage(), -1)))


@refused(4, "not a whole number in range", family="view", foreign=4)
def negative_size() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=sizes(-2, 2))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def negative_stride() -> bytes:
    return checkpoint(mapping(w=view(storage(), 3, stride=sizes(-2, -1))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def size_of_10_000_digits() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=TupleNode([10**9999, 1]))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def size_is_a_bool() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=TupleNode([True, 2]))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def size_is_a_float() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=TupleNode([2.0, 2]))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def size_is_a_text() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=TupleNode(["2", 2]))))


@refused(4, "has no sizes", family="view", foreign=4)
def sizes_are_a_number() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=4)))


@refused(4, "2 sizes and 1 strides", family="view", foreign=4)
def another_number_of_strides() -> bytes:
    return checkpoint(mapping(w=view(storage(), stride=sizes(1))))


@refused(4, "65 sizes", family="view", foreign=4)
def of_65_dimensions() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=sizes(*[1] * 65), stride=sizes(*[1] * 65))))


@refused(4, "rebuilt from no storage", family="view", foreign=4)
def no_storage() -> bytes:
    return checkpoint(mapping(w=view(None)))


@refused(4, "rebuilt from no storage", family="view", foreign=4)
def no_arguments() -> bytes:
    return checkpoint(mapping(w=Call("reduce", Global("torch._utils", "_rebuild_tensor_v2"), TupleNode([]))))


@refused(4, "no element type", family="view", foreign=4)
def no_element_type() -> bytes:
    return checkpoint(mapping(w=view(storage(), name="_rebuild_tensor_v3")))


@refused(4, "storage 7 is missing", family="view", foreign=4)
def storage_missing() -> bytes:
    return checkpoint(mapping(w=view(storage("7"))))


@refused(4, r"storage \.\./data\.pkl is missing", family="view", foreign=4)
def storage_elsewhere() -> bytes:
    return checkpoint(mapping(w=view(storage("../data.pkl"))))


@refused(4, "storage +is missing", family="view", foreign=4)
def storage_is_a_folder() -> bytes:
    return checkpoint(mapping(w=view(storage(""))))


@refused(4, "16 bytes, the pickle expects 20", family="view", foreign=4)
def storage_too_long() -> bytes:
    return checkpoint(mapping(w=view(storage(elements=5))))


@refused(4, "16 bytes, the pickle expects 12", family="view", foreign=4)
def storage_too_short() -> bytes:
    return checkpoint(mapping(w=view(storage(elements=3))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def storage_of_no_number() -> bytes:
    return checkpoint(mapping(w=view(storage(elements=None))))


@refused(4, "not a whole number in range", family="view", foreign=4)
def storage_of_a_negative_number() -> bytes:
    return checkpoint(mapping(w=view(storage(elements=-4))))


@refused(4, "names no storage", family="view", foreign=4)
def storage_of_no_class() -> bytes:
    return checkpoint(mapping(w=view(storage(kind=Global("torch", "Tensor")))))


@refused(4, "names no storage", family="view", foreign=4)
def storage_key_is_a_number() -> bytes:
    return checkpoint(mapping(w=view(storage(0))))


@refused(4, "names no storage", family="view", foreign=4)
def an_id_that_is_a_text() -> bytes:
    return checkpoint(mapping(w=view(Persistent("storage"))))


@refused(4, "names no storage", family="view", foreign=4)
def an_id_of_another_kind() -> bytes:
    return checkpoint(mapping(w=view(Persistent(TupleNode(["module", 1, 2, 3, 4])))))


@refused(4, "storage 0 is described in two ways", family="view", foreign=4)
def a_storage_of_two_types() -> bytes:
    return checkpoint(mapping(w=ListNode([_GOOD, view(storage(kind=Global("torch", "IntStorage")))])))


@refused(4, "behind the end of its storage", family="view")
def an_offset_that_wraps_around_64_bits() -> bytes:
    return checkpoint(mapping(w=view(storage(), (1 << 62) - 1, shape=sizes(4), stride=sizes(1 << 61))))


@refused(4, "not a whole number in range", family="view")
def an_offset_of_2_to_the_64() -> bytes:
    return checkpoint(mapping(w=view(storage(), 1 << 64)))


@refused(4, "behind the end of its storage", family="view")
def strides_whose_sum_wraps_around_64_bits() -> bytes:
    return checkpoint(mapping(w=view(storage(), 0, shape=sizes(3, 3), stride=sizes(1 << 61, 1 << 61))))


@refused(4, "behind the end of its storage", family="view")
def one_element_behind_the_end() -> bytes:
    return checkpoint(mapping(w=view(storage(), 4, shape=sizes(), stride=sizes())))


@refused(4, "behind the end of its storage", family="view")
def a_type_twice_as_wide_as_its_storage() -> bytes:
    """An untyped storage of 16 bytes as four float64."""
    untyped = storage(elements=16, kind=Global("torch.storage", "UntypedStorage"))
    args = TupleNode(
        [
            untyped,
            0,
            sizes(4),
            sizes(1),
            False,
            Call("reduce", Global("collections", "OrderedDict"), TupleNode([])),
            Global("torch", "float64"),
        ]
    )
    return checkpoint(mapping(w=Call("reduce", Global("torch._utils", "_rebuild_tensor_v3"), args)))


@refused(4, "storage 0 is described in two ways", family="view")
def a_storage_of_two_lengths() -> bytes:
    return checkpoint(mapping(w=_GOOD, v=view(storage(elements=2), shape=sizes(2), stride=sizes(1))))


@refused(4, "behind the end of its storage", family="view")
def a_weight_that_reads_its_neighbour() -> bytes:
    """The next record lies right behind in the file; torch showed its bytes before 2.2."""
    return checkpoint(mapping(w=view(storage(), 2), v=view(storage("1"))), _0=STORAGE, _1=STORAGE)


@refused(4, "not a whole number in range", family="view")
def an_offset_that_is_not_a_number() -> bytes:
    return checkpoint(mapping(w=view(storage(), float("nan"))))


@refused(4, "not a whole number in range|names no storage", family="view")
def elements_by_the_billion_in_a_float() -> bytes:
    return checkpoint(mapping(w=view(storage(elements=4.0))))


@accepted(family="view")
def strides_of_zero() -> bytes:
    return checkpoint(mapping(w=view(storage(), 1, stride=sizes(0, 0)), v=view(storage("1"))), _0=STORAGE, _1=STORAGE)


@accepted(family="view")
def two_views_of_one_storage_that_touch() -> bytes:
    halves = {name: view(storage(), at, shape=sizes(2), stride=sizes(1)) for name, at in (("a", 0), ("b", 2))}
    return checkpoint(mapping(**halves))


@accepted(family="view")
def columns() -> bytes:
    return checkpoint(
        mapping(**{name: view(storage(), at, shape=sizes(2), stride=sizes(2)) for name, at in (("a", 0), ("b", 1))})
    )


@accepted(family="view")
def a_weight_that_is_no_number_and_infinite() -> bytes:
    odd = struct.pack("<4f", float("nan"), float("inf"), -float("inf"), -0.0)
    return checkpoint(mapping(w=_GOOD), _0=odd)


@accepted(family="view")
def an_empty_tensor_with_strides_of_any_size() -> bytes:
    empty = view(storage("1", 0), 0, shape=sizes(0, 3), stride=sizes(1 << 40, 1))
    return checkpoint(mapping(w=_GOOD, e=empty), _0=STORAGE, _1=b"")


@accepted(family="view")
def sizes_in_a_list() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=ListNode([2, 2]), stride=ListNode([2, 1]))))


@accepted(family="view")
def sixty_four_dimensions() -> bytes:
    return checkpoint(mapping(w=view(storage(), shape=sizes(4, *[1] * 63), stride=sizes(*[1] * 64))))


@accepted(family="view")
def a_transposed_weight() -> bytes:
    return checkpoint(mapping(w=view(storage(), stride=sizes(1, 2))))


@accepted(family="view")
def a_tag_of_a_device_there_is_not() -> bytes:
    away = Persistent(TupleNode(["storage", Global("torch", "FloatStorage"), "0", "cpu", 4]))
    return checkpoint(mapping(w=view(away)))
