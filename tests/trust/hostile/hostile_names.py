"""Names that attack a terminal, a table or a script, in files that are good otherwise, and in such as are not."""

import io
from collections.abc import Callable

import torch
from hostile_corpus import TENSORS, accepted, refused
from hostile_makers import (
    STORAGE,
    checkpoint,
    mapping,
    nested_zip,
    storage,
    tensor,
    tensors,
    tensors_entry,
    text,
    view,
    zipped,
)
from safetensors.torch import save

Make = Callable[..., object]


def _weight(name: str) -> bytes:
    out = io.BytesIO()
    torch.save({name: torch.arange(1.0, 5)}, out)
    return out.getvalue()


def _entry(name: str) -> bytes:
    return save({name: torch.arange(1.0, 5)})


def _clear(make: Make) -> Make:
    return accepted(family="name")(make)


def _tensors(make: Make) -> Make:
    return accepted(family="name", reference="safetensors", kind=TENSORS)(make)


@_clear
def that_clears_the_screen() -> bytes:
    return _weight("clear\x1b[2J\x1b]52;c;ZXZpbA==\x07.weight")


@_clear
def that_forges_a_line() -> bytes:
    return _weight("line\nprunecli: error: forged.weight")


@_clear
def that_turns_the_line_around() -> bytes:
    return _weight("bidi\u202egnp.weight\u2066")


@_clear
def of_c1_controls() -> bytes:
    return _weight("c1\x9b31m.weight\x85")


@_clear
def that_closes_markup() -> bytes:
    return _weight("[/]closing[bold red]")


@_clear
def that_is_html() -> bytes:
    return _weight("</td><script>alert(1)</script><img src=x onerror=alert(1)>")


@_clear
def that_is_a_formula() -> bytes:
    return _weight('=HYPERLINK("http://evil","x")')


@_clear
def of_a_lone_surrogate() -> bytes:
    return zipped(b"\x80\x02}" + text("lone\ud800.weight") + tensor() + b"s.")


@_clear
def of_no_letter() -> bytes:
    return _weight("")


@_clear
def of_4000_letters() -> bytes:
    return _weight("long" * 1000)


@_tensors
def in_a_header_that_clears_the_screen() -> bytes:
    return _entry("clear\x1b[2J\x1b]0;evil\x07.weight")


@_tensors
def in_a_header_that_turns_the_line_around() -> bytes:
    return _entry("bidi\u202egnp\u2066\u200f\u061c\ufeff.weight")


@_tensors
def in_a_header_of_a_percent_sign_and_braces() -> bytes:
    return _entry("%s %n {0} ${HOME} `touch canary` $(touch canary)")


@refused(4, r"storage \\x1b\[2J\\n7 is missing", family="name")
def of_a_storage_that_clears_the_screen() -> bytes:
    return checkpoint(mapping(w=view(storage("\x1b[2J\n7"))))


@refused(4, r"storage x{50,}…x{75,} is missing", family="name")
def of_a_storage_of_100_000_letters() -> bytes:
    return checkpoint(mapping(w=view(storage("x" * 100_000))))


@refused(5, r"\(evil\\u202e\.\\x1b\[2J\)", family="name", foreign=0)
def of_a_class_that_clears_the_screen() -> bytes:
    inner = text("evil\u202e") + text("\x1b[2J") + b"\x93"
    return zipped(b"\x80\x04}(" + text("w") + tensor() + text("x") + inner + b"u.")


@refused(5, r"\(\[bold red\]\[link=http://evil\]x\.C\[/\]\)", family="name", foreign=0)
def of_a_class_that_is_markup() -> bytes:
    return zipped(b"\x80\x02}(" + text("w") + tensor() + text("x") + b"c[bold red][link=http://evil]x\nC[/]\nu.")


@refused(4, r"record m/\\x1b\]0;evil\\x07/../x leaves", family="name")
def of_a_record_that_sets_the_title() -> bytes:
    return nested_zip({"data.pkl": b"N.", "\x1b]0;evil\x07/../x": STORAGE})


@refused(4, r"tensor \\u202egnp\\x9b has 8 bytes", family="name", kind=TENSORS)
def of_a_tensor_that_is_damaged() -> bytes:
    return tensors({"\u202egnp\x9b": tensors_entry(shape=[3])}, bytes(8))


@refused(4, r"has the element type \\x1b\[31mF32", family="name", kind=TENSORS)
def of_an_element_type() -> bytes:
    return tensors({"w": tensors_entry(dtype="\x1b[31mF32")}, bytes(8))


@refused(4, r"has the element type x{50,}…x{50,}", family="name", kind=TENSORS)
def of_an_element_type_of_a_million_letters() -> bytes:
    return tensors({"w": tensors_entry(dtype="x" * 1_000_000)}, bytes(8))


@refused(4, r"two tensors are named \\x1b\[2J|has the key \\x1b\[2J twice", family="name")
def that_is_there_twice() -> bytes:
    return zipped(b"\x80\x02}(" + (text("\x1b[2J") + tensor()) * 2 + b"u.")


@refused(4, "is neither text nor a whole number", family="name")
def that_is_bytes() -> bytes:
    return zipped(b"\x80\x03}(" + text("v") + tensor() + b"C\x04\x1b[2J" + tensor() + b"u.")
