"""prove(): what it proves, refutes and refuses, and how it says so.

Soundness is a table of planted errors, none of which may pass as proved or as evidence, and a table
of true claims, none of which may be refuted. Every refutation's witness is run as it is printed.
"""

import re
from fractions import Fraction

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import minseg.functional as F
from minseg import Tensor, loops
from minseg.proofs import ProofError, prove

FORMS = dict(x=(4, 4), k=(3, 3))
HALF, TINY = Fraction(1, 2), Fraction(1, 2**52)


def transposed(x, k):
    return F.conv_transpose2d(x, k, stride=2)


def same_kernel(x, k):
    return F.fractionally_strided_conv2d(x, k, stride=2)


def turned_kernel(x, k):
    return F.fractionally_strided_conv2d(x, F.rot180(k), stride=2)


def as_printed(verdict, left, right):
    """Run the lines under "ready to run": what left and right give, each beside what is printed."""
    names, values = dict(np=np, Fraction=Fraction, left=left, right=right), []
    for line in str(verdict).split("ready to run:\n")[1].splitlines():
        if not line.startswith("    "):
            break
        if line.startswith(("    left(", "    right(")):
            code, printed = line.strip().split("#")
            values.append((eval(code, names), printed.strip()))
        else:
            exec(line.strip(), names)
            given = {name: names[name].copy() for name in verdict.witness if name in names}
    assert given.keys() == verdict.witness.keys()
    assert all(np.array_equal(given[name], array) for name, array in verdict.witness.items())
    return values


def differ(verdict, left, right):
    """The witness, run as printed, does tell the two sides apart."""
    (one, _), (other, _) = as_printed(verdict, left, right)
    return one != other


def verdict_or_refusal(*sides, **question):
    """What prove says: a Verdict, or the sentence of its refusal."""
    try:
        return prove(*sides, **question)
    except ProofError as refusal:
        return str(refusal)


# The examples


def test_transposed_equals_fractionally_strided_with_the_kernel_turned():
    verdict = prove(transposed, turned_kernel, **FORMS)
    first, *_, last = str(verdict).splitlines()
    assert first == "PROVED for x=(4, 4), k=(3, 3)"
    assert last.strip() == (
        "Settled for these shapes; your homework asks for all of them: write the change of index."
    )
    assert verdict.holds
    assert verdict.only_if is None
    assert not verdict.witness


def test_with_the_same_kernel_the_smallest_differing_output_is_shown():
    verdict = prove(transposed, same_kernel, **FORMS)
    text = str(verdict)
    assert text.startswith("REFUTED for x=(4, 4), k=(3, 3)\n")
    assert re.search(r"y\[0,0\]: left k00\*x00\n +right k22\*x00\n", text)
    assert "left - right = k00*x00 - k22*x00\n" in text
    assert "change of index" not in text
    assert not verdict
    assert differ(verdict, transposed, same_kernel)


def test_the_two_formulas_of_the_homework_slide_are_reproduced_from_the_training_code():
    # padding=2 leaves the centre pixel of the 5 x 5 canvas
    verdict = prove(
        lambda x, k: F.conv_transpose2d(x, k, stride=2, padding=2),
        lambda x, k: F.fractionally_strided_conv2d(x, k, stride=2, padding=2),
        x=(2, 2), k=(3, 3), letters={"x": "abcd"},
    )  # fmt: skip
    assert "y[0,0]: left a*k22 + b*k20 + c*k02 + d*k00\n" in str(verdict)
    assert " right a*k00 + b*k02 + c*k20 + d*k22\n" in str(verdict)


def test_indices_xy_print_as_slides_do():
    text = str(prove(transposed, same_kernel, **FORMS, indices="xy"))
    assert "left k_{-1,-1}*x_{-2,-2}\n" in text
    assert "right k_{1,1}*x_{-2,-2}\n" in text


def test_a_table_of_shapes_and_parameters_is_passed_on_to_both_functions():
    table = [
        dict(x=(n, n + 1), k=(k, k), stride=s, padding=p, dilation=d)
        for n, k, s, p, d in [
            (2, 3, 1, 0, 1),
            (3, 2, 2, 1, 1),
            (2, 2, 3, 0, 2),
            (3, 3, 2, (1, 2), 1),
        ]
    ]
    verdict = prove(
        F.conv_transpose2d,
        lambda x, k, **options: F.fractionally_strided_conv2d(x, F.rot180(k), **options),
        over=table,
    )
    assert verdict.status == "PROVED"
    assert len(verdict.settled) == 4
    assert all(name in verdict.settled[3] for name in ("x=(3, 4)", "stride=2", "padding=(1, 2)"))
    fifth = dict(x=(2, 2), k=(2, 2), stride=1, padding=0, dilation=1)
    verdict = prove(F.conv_transpose2d, F.fractionally_strided_conv2d, over=[*table, fifth])
    assert verdict.status == "REFUTED"
    assert verdict.settled == [
        "x=(2, 2), k=(2, 2), stride=1, padding=0, dilation=1"
    ]  # the smallest


def test_shapes_beside_a_table_hold_for_every_row():
    verdict = prove(
        lambda x, k, stride: F.conv2d(x, k, stride=stride),
        lambda x, k, stride: F.conv2d(x, k)[::stride, ::stride],
        x=(5, 6), over=[dict(k=(k, 2), stride=s) for k in (1, 3) for s in (1, 2, 3)],
    )  # fmt: skip
    assert verdict.status == "PROVED"
    assert len(verdict.settled) == 6
    assert "and 2 more" in str(verdict).splitlines()[0]


# where: a condition, and whether it is needed


@pytest.mark.parametrize("where", [lambda k: (k, F.rot180(k)), lambda x, k: [(F.rot180(k), k)]])
def test_the_same_kernel_will_do_if_and_only_if_it_equals_itself_turned(where):
    verdict = prove(transposed, same_kernel, **FORMS, where=where)
    assert verdict.status == "PROVED"
    assert verdict.only_if is True
    assert "only then" in str(verdict)


def test_a_symmetric_kernel_will_not_do():
    verdict = prove(transposed, same_kernel, **FORMS, where=lambda x, k: (k, k.T))
    assert verdict.status == "REFUTED"
    assert np.array_equal(verdict.witness["k"], verdict.witness["k"].T)
    assert differ(verdict, transposed, same_kernel)


def test_a_condition_stronger_than_needed_is_called_so():
    both = lambda x, k: ((k, F.rot180(k)), (k, k.T))  # noqa: E731
    verdict = prove(transposed, same_kernel, **FORMS, where=both)
    assert verdict.status == "PROVED"
    assert verdict.only_if is False
    assert "Not only then" in str(verdict)


def test_a_condition_that_changes_nothing_is_not_needed():
    verdict = prove(transposed, turned_kernel, **FORMS, where=lambda x, k: (k, k.T))
    assert verdict.status == "PROVED"
    assert verdict.only_if is False


def test_only_if_is_left_open_where_no_linear_algebra_decides_it():
    # squares are equal where the signs differ as well, so "only if k == k.T" would be false
    verdict = prove(lambda k: k * k, lambda k: k.T * k.T, k=(2, 2), where=lambda k: (k, k.T))
    assert verdict.status == "PROVED"
    assert verdict.only_if is None
    assert "only then" not in str(verdict).lower()


def test_entries_of_two_arrays_can_be_made_equal():
    verdict = prove(
        lambda x, z: x - z, lambda x, z: 0 * x, x=(2,), z=(2,), where=lambda x, z: (x, z)
    )
    assert verdict.status == "PROVED"
    assert verdict.only_if is True


@pytest.mark.parametrize("shape", [(3,), (50, 50)])
@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        (lambda k: (k, -k), "may only rearrange"),
        (lambda k: (k, k + 1), "may only rearrange"),
        (lambda k: (k, 0 * k), "may only rearrange"),
        (lambda k: (k[:1], k[1:2] + k[2:3]), "may only rearrange"),
        (lambda k: (k, k[:1]), r"\(1\D"),
        (lambda k: k[7], "where"),
        (lambda k: None, "where"),
    ],
)
def test_a_condition_that_does_not_rearrange_entries_is_refused(shape, where, sentence):
    with pytest.raises(ProofError, match=sentence):
        prove(lambda k: k, lambda k: k, k=shape, where=where)


# What functions may look like


def test_arrays_go_to_parameters_of_their_names_else_in_order():
    assert prove(lambda k, x: x - 2 * k, lambda x, k: x - 2 * k, x=(2,), k=(2,)).status == "PROVED"
    assert prove(lambda a, b: a - 2 * b, lambda *both: both[0] - 2 * both[1], x=(2,), k=(2,))
    assert prove(np.subtract, lambda a, b: -(b - a), x=(2,), k=(2,)).status == "PROVED"


def test_the_printed_call_runs_for_functions_with_parameters_in_another_order():
    left, right = (lambda k, x: x - 2 * k), (lambda k, x: 2 * x - k)
    verdict = prove(left, right, x=(2,), k=(2,))
    for value, printed in as_printed(verdict, left, right):
        assert str(value) == printed


def test_one_argument_a_scalar_and_no_axes_will_do():
    assert prove(lambda x: x.sum(), lambda x: np.einsum("ij->", x), x=(2, 3)).status == "PROVED"
    assert prove(lambda x: x * x, lambda x: x**2, x=()).status == "PROVED"
    left, right = (lambda x: x.sum()), (lambda x: x[0])
    verdict = prove(left, right, x=(2,))
    assert "y: left x0 + x1\n" in str(verdict)
    assert differ(verdict, left, right)


def test_several_outputs_are_compared_one_by_one():
    def left(x, k, dy):
        return [gradient(dy) for gradient in F.conv2d.__wrapped__(x, k)[1][:2]]

    def right(x, k, dy):
        return F.conv_transpose2d(dy, k), F.conv2d(x, dy)

    shapes = dict(x=(3, 4), k=(2, 2), dy=(2, 3))
    assert prove(left, right, **shapes).status == "PROVED"
    swapped = lambda x, k, dy: (right(x, k, dy)[0], right(x, F.rot180(k), F.rot180(dy))[1])  # noqa: E731
    verdict = prove(left, swapped, **shapes)
    assert "y1[" in str(verdict)
    assert differ(verdict, left, swapped)


def test_tensors_and_their_gradients_may_be_returned():
    def left(x, k, dy):
        x = Tensor(x, requires_grad=True)
        y = F.conv2d(x, k, stride=2)
        y.backward(dy)
        return y, x.grad

    def right(x, k, dy):
        return F.conv2d(Tensor(x), k, stride=2), F.conv_transpose2d(dy, k, stride=2)

    assert prove(left, right, x=(5, 5), k=(3, 3), dy=(2, 2)).status == "PROVED"


def test_nothing_is_printed_and_no_global_chance_is_touched(capfd):
    state = np.random.get_state()[1].tolist()
    prove(transposed, same_kernel, **FORMS)
    prove(lambda x: F.relu(x), lambda x: F.relu(x) + F.relu(-x), x=(2, 2))
    prove(np.sin, np.sin, x=(2,), analytic=True)
    assert capfd.readouterr() == ("", "")
    assert np.random.get_state()[1].tolist() == state


def test_the_functions_get_arrays_of_their_own():
    def mutating(x):
        x *= 0
        return x

    assert prove(lambda x: mutating(x.copy()) + x, lambda x: x, x=(2, 2)).status == "PROVED"
    verdict = prove(mutating, lambda x: x, x=(2, 2))
    assert "y[0,0]: left 0\n" in str(verdict)


def test_the_same_question_has_the_same_answer():
    question = dict(x=(3, 3))
    answers = {
        str(prove(lambda x: F.max_pool2d(-x, 2), lambda x: -F.max_pool2d(x, 2), **question))
        for _ in range(2)
    }
    assert len(answers) == 1


# Integers where formal variables are refused


def student_transposed(X, K):
    """The slide's loop, stored in floats as students write it."""
    h, w = K.shape
    Y = np.zeros((X.shape[0] + h - 1, X.shape[1] + w - 1))
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            Y[i : i + h, j : j + w] += X[i, j] * K
    return Y


def student_convolution(X, K, kind=float):
    """Another, one pixel at a time."""
    h, w = K.shape
    Y = np.zeros((X.shape[0] - h + 1, X.shape[1] - w + 1), kind)
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = (X[i : i + h, j : j + w] * K).sum()
    return Y


@pytest.mark.parametrize(
    ("student", "op"), [(student_transposed, F.conv_transpose2d), (student_convolution, F.conv2d)]
)
def test_a_loop_that_stores_floats_is_settled_by_integers_and_gets_the_hint(student, op):
    verdict = prove(student, lambda x, k: op(x, k), **FORMS)
    text = str(verdict)
    assert text.startswith("PROVED GIVEN LINEARITY for x=(4, 4), k=(3, 3)\n")
    assert "np.zeros((h, w))" in text
    assert "np.zeros(shape, X.dtype)" in text
    assert "change of index" in text


def test_more_variables_than_formal_ones_can_carry_fall_to_integers():
    verdict = prove(F.conv2d, lambda x, k: F.conv2d(x, k), x=(27, 26), k=(2, 2))
    assert str(verdict).startswith("PROVED GIVEN LINEARITY")
    assert "706" in str(verdict)
    large = dict(x=(30, 30), k=(3, 3))
    assert str(prove(F.conv2d, lambda x, k: F.conv2d(x, k), **large)).startswith("EVIDENCE")
    turned = lambda x, k: F.conv2d(x, F.rot180(k))  # noqa: E731
    verdict = prove(F.conv2d, turned, **large)
    assert verdict.status == "REFUTED"
    assert differ(verdict, F.conv2d, turned)


def test_a_claim_of_almost_700_variables_is_refuted_by_formulas():
    turned = lambda x, k: F.conv2d(x, F.rot180(k))  # noqa: E731
    assert prove(F.conv2d, turned, x=(23, 30), k=(3, 3)).status == "REFUTED"


def test_evidence_states_its_range_and_its_chance_of_error():
    verdict = prove(lambda x: F.max_pool2d(x + 1, 2), lambda x: F.max_pool2d(x, 2) + 1, x=(4, 4))
    text = str(verdict)
    assert text.startswith("EVIDENCE for x=(4, 4)\n")
    assert "random integer" in text
    assert "chance" in text
    assert "change of index" not in text


def test_a_refutation_by_integers_is_small():
    left, right = (lambda x: F.max_pool2d(-x, 2)), (lambda x: -F.max_pool2d(x, 2))
    verdict = prove(left, right, x=(4, 4))
    assert verdict.status == "REFUTED"
    assert np.abs(verdict.witness["x"]).max() <= 9
    assert differ(verdict, left, right)


def test_least_keeps_the_integers_where_the_claim_is_made():
    assert prove(abs, lambda x: x, x=(2, 2), least=0).status == "EVIDENCE"
    assert prove(abs, lambda x: x, x=(2, 2)).status == "REFUTED"
    verdict = prove(lambda x: x // abs(x), lambda x: x // x + (x > 9), x=(2,), least=1)
    assert verdict.status == "REFUTED"
    assert verdict.witness["x"].min() >= 1


# Analytic claims


LABELS = np.array([2, 0])


def cross_entropy_gradient(logits):
    logits = Tensor(logits, requires_grad=True)
    F.cross_entropy(logits, LABELS).backward()
    return logits.grad


def softmax_minus_one_hot(logits, off=0.0):
    return (F.softmax(logits) * (1 + off) - np.eye(3)[LABELS]) / 2


def batch_norm(x):
    return F.batch_norm(x, None, None)


ANALYTIC = [
    (cross_entropy_gradient, softmax_minus_one_hot, (2, 3)),
    (batch_norm, lambda x, off=0.0: batch_norm(3 * x - 7) * (1 + off), None),
    (lambda x: F.softmax(x), lambda x, off=0.0: F.softmax(x + 5 + off * np.arange(3)), (2, 3)),
    (lambda x: F.log(x * x), lambda x, off=0.0: 2 * F.log(abs(x)) + off, (3,)),
]


@pytest.mark.parametrize(("left", "right", "shape"), [ANALYTIC[0], *ANALYTIC[2:]])
def test_an_analytic_claim_that_holds_is_evidence_with_its_error(left, right, shape):
    verdict = prove(left, right, x=shape, analytic=True)
    assert str(verdict).startswith(f"EVIDENCE for x={shape}\n")
    assert float(re.search(r"error (\S+)", str(verdict))[1]) < 1e-9


def test_batch_norm_forgets_shift_and_scale_but_for_eps():
    left = lambda x: F.batch_norm(x, None, None, eps=1e-30)  # noqa: E731
    right = lambda x: F.batch_norm(3 * x - 7, None, None, eps=1e-30)  # noqa: E731
    assert prove(left, right, x=(4, 2), analytic=True).status == "EVIDENCE"
    assert prove(batch_norm, lambda x: batch_norm(3 * x - 7), x=(4, 2), analytic=True).status == (
        "REFUTED"
    )


@pytest.mark.parametrize(("left", "right", "shape"), [ANALYTIC[0], *ANALYTIC[2:]])
def test_an_analytic_error_of_a_millionth_is_refuted_and_its_witness_shows_it(left, right, shape):
    wrong = lambda x: right(x, off=1e-6)  # noqa: E731
    verdict = prove(left, wrong, x=shape, analytic=True)
    assert str(verdict).startswith(f"REFUTED for x={shape}\n")
    (x,) = verdict.witness.values()
    assert np.abs(left(x) - wrong(x)).max() > 1e-8


# In a notebook


@pytest.mark.parametrize("options", [{}, {"indices": "xy"}, {"letters": {"k": "abcdefghi"}}])
def test_a_notebook_shows_the_formulas_typeset_and_a_picture(options):
    page = prove(transposed, same_kernel, **FORMS, **options)._repr_html_()
    assert "REFUTED for x=(4, 4), k=(3, 3)" in page
    assert re.search(r"\$\$.*left.*right.*\$\$", page, re.S)
    kernel = {"indices": "k_{-1,-1}", "letters": "a"}.get(next(iter(options), ""), "k_{00}")
    formulas = re.search(r"\$\$(.*)\$\$", page, re.S)[1]
    assert kernel in formulas
    assert "*" not in formulas
    assert re.search(r'<img [^>]*alt="[^"]+" [^>]*src="data:image/png;base64,iVBOR', page)


def test_a_notebook_typesets_indices_of_two_digits():
    left, right = (lambda x: x[10:] ** 2), (lambda x: x[9:11])
    formulas = re.search(r"\$\$(.*)\$\$", prove(left, right, x=(12,))._repr_html_(), re.S)[1]
    assert re.search(r"x_\{10\}\^\{?2\b", formulas)
    page = prove(lambda x: x[0, 10], lambda x: x[1, 11], x=(2, 12))._repr_html_()
    assert re.search(r"x_\{0.10\}", re.search(r"\$\$(.*)\$\$", page, re.S)[1])


@pytest.mark.parametrize(
    ("left", "right", "analytic"),
    [
        (transposed, turned_kernel, False),
        (student_transposed, lambda x, k: F.conv_transpose2d(x, k), False),
        (lambda x, k: F.relu(x), lambda x, k: F.relu(x) - k[0, 0], False),
        (lambda x, k: F.exp(x), lambda x, k: F.exp(x), True),
        (lambda x, k: F.exp(x), lambda x, k: F.exp(x) + k[0, 0], True),
    ],
)
def test_every_verdict_has_a_page(left, right, analytic):
    verdict = prove(left, right, **FORMS, analytic=analytic)
    page = verdict._repr_html_()
    assert verdict.status in page
    assert ("<img" in page) == (verdict.status == "REFUTED")


def test_angle_brackets_do_not_become_tags():
    verdict = prove(lambda x: np.where(x < 3, 1, 0), lambda x: 1 * (x < 3), x=(2,))
    assert "<lambda>" not in verdict._repr_html_()


# Bad input: one clear sentence each


def fails(x):
    return x[7]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        (dict(x=(4, 4), left=lambda x: x[1:]), r"\(3, 4\).*\(4, 4\)"),
        (dict(x=(4, 4), left=lambda x: (x, x)), r"left.*\[\(4, 4\), \(4, 4\)\].*right.*\(4, 4\)"),
        (dict(x=(4, 4), left=lambda x: None), r"left must return an array.*NoneType.*return"),
        (dict(x=(4, 4), left=lambda x: "y"), r"left must return an array.*str"),
        (dict(x=(4, 4), left=lambda x: x.tolist()), r"left must return an array.*list"),
        (dict(x=(4, 4), left=lambda x: {"y": x}), r"left must return an array.*dict"),
        (dict(x=(4, 4), left=lambda x: np.array(["y"] * 16).reshape(4, 4)), "left must return.*str"),
        (dict(x=(4, 4), left=lambda x: np.full((4, 4), None)), "left must return.*NoneType"),
        (dict(x=(4, 4), left=fails), r"left\(x=\(4, 4\)\) raised IndexError.*line \d+: return x\[7\]"),
        (dict(x=(4, 4), left=lambda x, k: x), r"left\(x=\(4, 4\)\) raised TypeError.*'k'"),
        (dict(x=(4, 4), left=lambda x: F.conv2d(x, x, padding=-1)), "padding must be at least 0"),
        (dict(x=(4, 4), left=3), "left must be a function, got 3"),
        (dict(x=(4, -4)), r"x must be a shape.*\(4, -4\)"),
        (dict(x=(4, 0.5)), r"x must be a shape.*\(4, 0.5\)"),
        (dict(x="44"), "x must be a shape.*'44'"),
        (dict(), "name at least one array"),
        (dict(over=[]), "empty table"),
        (dict(over=[dict(stride=2)]), "name at least one array"),
        (dict(x=(4, 4), indices="ij"), "indices must be.*'ij'"),
        (dict(x=(2, 2), letters={"x": "abc"}), "letters for x must name 4 entries"),
        (dict(x=(2, 2), letters={"k": "abcd"}), "letters.*k.*no array"),
        (dict(x=(2, 2), x0=(2,), left=lambda x, x0: x, right=lambda x, x0: x), "share a name"),
        (dict(x=(0, 2)), "no outputs|nothing to settle"),
        (dict(x=(2, 2), left=lambda x: x[5:], right=lambda x: x[5:]), "no outputs|nothing to settle"),
        (dict(x=(2, 2), left=lambda x: (), right=lambda x: ()), "no outputs|nothing to settle"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_a_sentence(question, sentence):
    question = dict(left=lambda x: x, right=lambda x: x) | question
    with pytest.raises(ProofError, match=f"(?s)^prove: .*({sentence})") as error:
        prove(question.pop("left"), question.pop("right"), **question)
    assert "\n" not in str(error.value)


def test_a_claim_that_needs_numbers_other_than_integers_names_the_way():
    with pytest.raises(ProofError, match="analytic=True"):
        prove(lambda x: F.softmax(x), lambda x: F.softmax(x + 1), x=(2, 3))


# Soundness: planted errors. None may be proved, nor pass as evidence.


def spread(x, k, stride=1, skip=None, overwrite=False):
    """The slide's transposed convolution, with errors to choose from."""
    h, w = k.shape
    size = [(n - 1) * stride + m for n, m in zip(x.shape, k.shape, strict=True)]
    y = np.zeros(size, np.result_type(x, k))
    for i, j in np.ndindex(x.shape):
        window = y[i * stride : i * stride + h, j * stride : j * stride + w]
        for u, v in np.ndindex(k.shape):
            if (u, v) != skip:
                window[u, v] = x[i, j] * k[u, v] + (0 if overwrite else window[u, v])
    return y


def interleaved(x, stride, before, after):
    """x with stride - 1 zeros between its pixels and a border."""
    z = np.zeros([(n - 1) * stride + 1 for n in x.shape], x.dtype)
    z[::stride, ::stride] = x
    return np.pad(z, ((before, after), (before, after)))


def bumped(change, factor=1, kind=object):
    """conv2d with `change` added to one weight, or that weight times `factor`."""

    def convolve(x, k):
        wrong = k.astype(kind if k.dtype != object else object)
        wrong[1, 1] = wrong[1, 1] * factor + change
        return F.conv2d(x, wrong)

    return convolve


def changed(function, when, change):
    """function, but for `change`(y) where `when`(its arguments) holds."""

    def wrong(*arrays, **options):
        y = np.array(function(*arrays, **options))
        return change(y) if when(*arrays, **options) else y

    return wrong


def last_pixel_doubled(y):
    y[-1, -1] = y[-1, -1] * 2
    return y


def last_row_lost(y):
    y[-1] = 0 * y[-1]
    return y


def always(*_, **__):
    return True


def strided(x, k, stride):
    return F.conv_transpose2d(x, k, stride=stride)


def strides(*values):
    return dict(over=[dict(x=(3, 3), k=(2, 2), stride=stride) for stride in values])


def relu_of(function):
    return lambda *arrays: F.relu(function(*arrays))


def identity(x):
    return x


def cheating(when):
    """The identity, but twice its input for arrays of some kinds of number."""
    return lambda x: 2 * x if when(x.dtype.kind) else x


def swallowing(x):
    try:
        return x if x[0] > 0 else -x
    except TypeError:
        return x


class Counting:
    """The identity, but twice its input on some calls."""

    def __init__(self, wrong):
        self.wrong, self.calls = wrong, 0

    def __call__(self, x):
        self.calls += 1
        return 2 * x if self.wrong(self.calls) else x


class Buffered:
    """Writes into one buffer for each kind of number and returns a view of it."""

    buffers: dict = {}  # noqa: RUF012

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        buffer = self.buffers.setdefault((x.shape, x.dtype), np.empty_like(x))
        buffer[...] = self.function(x)
        return buffer[:]


class Noisy:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.rng.integers(0, 2, x.shape)


class DoublesItsKernel:
    def __init__(self):
        self.kernel = np.array([[1, 2], [3, 4]])

    def __call__(self, x):
        y = F.conv2d(x, self.kernel)
        self.kernel *= 2
        return y


def subtracts_its_first_pixel(x, k):
    x -= x[0, 0]
    return F.conv2d(x, k)


def last_argmax(x):
    return x.size - 1 - np.argmax(x.ravel()[::-1])


XK = dict(x=(3, 4), k=(3, 2))
CHANNELS = dict(x=(1, 2, 2, 2), w=(2, 2, 2, 2))
GROUPS = dict(x=(1, 4, 2, 2), w=(4, 2, 2, 2))
BIASED = dict(x=(1, 1, 3, 3), w=(2, 1, 2, 2), b=(2,))

# name, left, right, question: exact on both sides, so it must be refuted
PLANTED = [
    ("no flip", transposed, same_kernel, FORMS),
    ("rows flipped only", transposed, lambda x, k: same_kernel(x, k[::-1]), FORMS),
    ("columns flipped only", transposed, lambda x, k: same_kernel(x, k[:, ::-1]), FORMS),
    ("transpose for turn", transposed, lambda x, k: same_kernel(x, k.T), FORMS),
    ("quarter turn", transposed, lambda x, k: same_kernel(x, np.rot90(k)), FORMS),
    ("turned twice", transposed, lambda x, k: turned_kernel(x, F.rot180(k)), FORMS),
    ("crop at one side only", lambda x, k: F.conv_transpose2d(x, k, padding=1),
     lambda x, k: F.conv_transpose2d(x, k)[2:, 2:], FORMS),
    ("crop one too far left", lambda x, k: F.conv_transpose2d(x, k, padding=1),
     lambda x, k: F.conv_transpose2d(x, k)[1:-1, :-2], FORMS),
    ("padding on one side", lambda x, k: F.conv2d(x, k, padding=1),
     lambda x, k: F.conv2d(np.pad(x, ((2, 0), (1, 1))), k), FORMS),
    ("padding law p for the first border", lambda x, k: F.conv_transpose2d(x, k, stride=2, padding=1),
     lambda x, k: F.conv2d(interleaved(x, 2, 1, 3), F.rot180(k)), dict(x=(3, 3), k=(4, 4))),
    ("padding law without dilation", lambda x, k: F.conv_transpose2d(x, k, dilation=2),
     lambda x, k: F.conv2d(np.pad(x, ((2, 6), (4, 4))), F.rot180(k), dilation=2), FORMS),
    ("output_padding on the wrong side",
     lambda x, k: F.conv_transpose2d(x, k, stride=2, output_padding=1),
     lambda x, k: np.pad(F.conv_transpose2d(x, k, stride=2), ((1, 0), (1, 0))), FORMS),
    ("channels not swapped", lambda x, w: F.conv_transpose2d(x, w),
     lambda x, w: F.fractionally_strided_conv2d(x, F.rot180(w)), CHANNELS),
    ("channels of the image swapped", lambda x, w: F.conv2d(x, w),
     lambda x, w: F.conv2d(x[:, ::-1], w), CHANNELS),
    ("groups interleaved", lambda x, w: F.conv2d(x, w, groups=2),
     lambda x, w: F.conv2d(x[:, [0, 2, 1, 3]], w, groups=2), GROUPS),
    ("outputs of groups in another order", lambda x, w: F.conv_transpose2d(x, w, groups=2),
     lambda x, w: F.conv_transpose2d(x, w, groups=2)[:, [0, 2, 1, 3]], GROUPS),
    ("1e-9 more in one weight", bumped(Fraction(1, 10**9)), F.conv2d, XK),
    ("2^-52 more in one weight", bumped(TINY), F.conv2d, XK),
    ("one weight times 1 + 2^-52", bumped(0, factor=1 + TINY), F.conv2d, XK),
    ("2^-52 more under a relu", relu_of(bumped(TINY)), relu_of(F.conv2d), XK),
    ("bug at stride 3 only", strided,
     changed(strided, lambda x, k, stride: stride == 3, last_pixel_doubled), strides(1, 2, 3, 4)),
    ("bug where stride > kernel only", strided,
     changed(strided, lambda x, k, stride: stride > len(k), last_row_lost), strides(1, 2, 3)),
    ("bug in the last row only", F.conv2d, changed(F.conv2d, always, last_row_lost), XK),
    ("bug in the last corner only", F.conv2d, changed(F.conv2d, always, last_pixel_doubled), XK),
    ("bug where W > H only", F.conv2d,
     changed(F.conv2d, lambda x, k: x.shape[1] > x.shape[0], last_pixel_doubled),
     dict(over=[dict(x=size, k=(2, 2)) for size in ((3, 3), (4, 3), (3, 4))])),
    ("bug in the second image only", lambda x, w: F.conv2d(x, w),
     lambda x, w: F.conv2d(np.concatenate([x[:1], x[:1]]), w), dict(x=(2, 1, 2, 2), w=(1, 1, 2, 2))),
    ("bug at dilation 2 only", lambda x, k: F.conv2d(x, k, dilation=2),
     lambda x, k: sum(x[r : r + 2, c : c + 2] * k[u, v]
                      for u, r in enumerate((0, 2, 3)) for v, c in enumerate((0, 2, 4))),
     dict(x=(6, 6), k=(3, 3))),
    ("overlaps overwritten", lambda x, k: F.conv_transpose2d(x, k),
     lambda x, k: spread(x, k, overwrite=True), XK),
    ("one tap missing", lambda x, k: F.conv_transpose2d(x, k),
     lambda x, k: spread(x, k, skip=(2, 1)), XK),
    ("no zeros between the pixels", transposed,
     lambda x, k: F.conv2d(np.pad(np.repeat(np.repeat(x, 2, 0), 2, 1)[1:, 1:], 2), F.rot180(k)), FORMS),
    ("bias added once too often", lambda x, w, b: F.conv2d(x, w, b),
     lambda x, w, b: F.conv2d(x, w, b) + b[:, None, None], BIASED),
    ("bias of the other channel", lambda x, w, b: F.conv2d(x, w, b),
     lambda x, w, b: F.conv2d(x, w, b[::-1]), BIASED),
    ("its input changed on the way", F.conv2d, subtracts_its_first_pixel, XK),
    ("kernel made symmetric", F.conv2d, lambda x, k: F.conv2d(x, (k + F.rot180(k)) * HALF), XK),
    ("kernel taken to be separable", F.conv2d,
     lambda x, k: F.conv2d(F.conv2d(x, k[:, :1]), k[:1]), XK),
    ("wrong mean at the border", lambda x: F.avg_pool2d(x, 3, 1, 1),
     lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), dict(x=(3, 3))),
    ("the other convention of bilinear", lambda x: F.interpolate(x, size=(5, 5), mode="bilinear"),
     lambda x: F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=True), dict(x=(3, 3))),
    ("nearest rounded up", lambda x: F.interpolate(x, size=(3, 3)),
     lambda x: F.interpolate(x[::-1, ::-1], size=(3, 3))[::-1, ::-1], dict(x=(2, 2))),
    ("skip connection in the other order", lambda x, z: F.cat([x, z]),
     lambda x, z: F.cat([z, x]), dict(x=(2, 2), z=(2, 2))),
    ("square for cube", lambda x: x**3, lambda x: x**2, dict(x=(2,))),
    ("product for zero", lambda x: np.prod([x - n for n in range(1, 9)], 0), lambda x: 0 * x,
     dict(x=(1,))),
    # functions that need numbers
    ("sign of one pixel decides", identity, lambda x: x if x[0] >= 0 else 2 * x, dict(x=(3,))),
    ("sign of the only pixel decides", identity, lambda x: x if x[0] > 0 else 2 * x, dict(x=(1,))),
    ("sign of the last weight decides", F.conv2d,
     lambda x, k: F.conv2d(x, k) * (1 if k[-1, -1] >= 0 else 2), XK),
    ("large values only", F.conv2d, lambda x, k: F.conv2d(np.clip(x, -5000, 5000), k), XK),
    ("results clamped at 2^30", F.conv2d, lambda x, k: np.clip(F.conv2d(x, k), -(2**30), 2**30), XK),
    ("magnitude of one", abs, identity, dict(x=(1,))),
    ("magnitude of several", abs, identity, dict(x=(2,))),
    ("square for magnitude", lambda x: x * x, abs, dict(x=(2, 2))),
    ("root of the square", lambda x: np.sqrt(x * x), lambda x: 1.0 * x, dict(x=(2,))),
    ("mean for maximum", lambda x: F.max_pool2d(x, 2), lambda x: x.reshape(2, 2, 2, 2).mean((1, 3)),
     dict(x=(4, 4))),
    ("mean of the package for maximum", lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2),
     dict(x=(4, 4))),
    ("minimum for maximum", lambda x: F.max_pool2d(-x, 2), lambda x: -F.max_pool2d(x, 2),
     dict(x=(4, 4))),
    ("pooling before the convolution", lambda x, k: F.max_pool2d(F.conv2d(x, k), 2),
     lambda x, k: F.conv2d(F.max_pool2d(x, 2, stride=1), k)[::2, ::2], dict(x=(5, 5), k=(2, 2))),
    ("relu on the other side of a sum", lambda x, z: F.relu(x + z),
     lambda x, z: F.relu(x) + F.relu(z), dict(x=(2,), z=(2,))),
    ("the last of equal maxima", np.argmax, last_argmax, dict(x=(2, 3))),
    ("slope of relu at 0", lambda x: 1 * (x > 0), lambda x: 1 * (x >= 0), dict(x=(2, 3))),
    ("division that cuts off", lambda x: x // 2, lambda x: x / 2, dict(x=(2, 2))),
    ("mean that cuts off", lambda x: x.reshape(2, 2).sum(1) // 2, lambda x: x.reshape(2, 2).mean(1),
     dict(x=(4,))),
    ("int() that cuts off", lambda x: np.array([int(n * 0.5) for n in x]), lambda x: x / 2,
     dict(x=(3,))),
    ("stored in integers", lambda x, k: student_convolution(x, k * 0.5, int),
     lambda x, k: F.conv2d(x, k * 0.5), XK),
    ("remainder", lambda x: x % 2**15, identity, dict(x=(2,), least=0)),
    ("int8", lambda x: x.astype(np.int8).astype(int), identity, dict(x=(2,))),
    ("int8 result", lambda x, k: F.conv2d(x, k).astype(np.int8), F.conv2d, XK),
    ("1 more, under a high power", lambda x: F.relu(x) ** 6 + 1.0, lambda x: F.relu(x) ** 6,
     dict(x=(2,))),
    ("not a number", lambda x: x * np.nan, identity, dict(x=(2,))),
    ("not a number in the corner", lambda x, k: np.pad(F.conv2d(x, k)[:, :-1].astype(float),
     ((0, 0), (0, 1)), constant_values=np.nan), F.conv2d, XK),
]  # fmt: skip

# Refusing these is as good: floats whose rounding could explain it, cheats, state, shapes
DOUBTFUL = [
    ("a float of 1e-9 more in one weight", bumped(1e-9, kind=float), F.conv2d, XK),
    ("a float of 2^-52 more in one weight", bumped(2**-52, kind=float), F.conv2d, XK),
    ("one weight times a float of 1 + 2^-52", bumped(0, 1 + 2**-52, float), F.conv2d, XK),
    ("a float of 1e-9 under a relu", relu_of(bumped(1e-9, kind=float)), relu_of(F.conv2d), XK),
    ("a float of 2^-52 under a relu", relu_of(bumped(2**-52, kind=float)), relu_of(F.conv2d), XK),
    ("a float of 2^-52 before a bias", lambda x, k, b: bumped(2**-52, kind=float)(x, k) + b,
     lambda x, k, b: F.conv2d(x, k) + b, XK | dict(b=(1,))),
    ("0.1 is no tenth", lambda x: 0.1 * x, lambda x: Fraction(1, 10) * x, dict(x=(3,))),
    ("a third in single precision", lambda x: np.float32(1) / np.float32(3) * x,
     lambda x: x * Fraction(1, 3), dict(x=(3,))),
    ("a kernel of floats", lambda x: F.conv_transpose2d(x, F.bilinear_kernel(3), stride=3),
     lambda x: F.conv_transpose2d(x, F.bilinear_kernel(3, exact=True), stride=3), dict(x=(2, 2))),
    ("int32 result", lambda x, k: F.conv2d(x, k).astype(np.int32), F.conv2d, XK),
    ("float16 result", lambda x, k: F.conv2d(x, k).astype(np.float16), F.conv2d, XK),
    ("float32 result", lambda x, k: F.conv2d(x, k).astype(np.float32), F.conv2d, XK),
    ("float32 on the way", lambda x, k: F.conv2d(x.astype(np.float32), k.astype(np.float32)),
     F.conv2d, XK),
    ("right for formal variables only", cheating(lambda kind: kind != "O"), identity, dict(x=(2,))),
    ("right for numbers only", cheating(lambda kind: kind == "O"), identity, dict(x=(2,))),
    ("wrong for floats only", cheating(lambda kind: kind == "f"), identity, dict(x=(2,))),
    ("wrong for integers only", cheating(lambda kind: kind == "i"), identity, dict(x=(2,))),
    ("a refusal swallowed", swallowing, identity, dict(x=(2,))),
    ("right on the first call only", Counting(lambda call: call > 1), identity, dict(x=(2,))),
    ("wrong on the first call only", Counting(lambda call: call == 1), identity, dict(x=(2,))),
    ("a kernel doubled by every call", DoublesItsKernel(),
     lambda x: F.conv2d(x, np.array([[1, 2], [3, 4]])), dict(x=(3, 3))),
    ("chance", Noisy(), identity, dict(x=(3, 3))),
    ("a view that changes later", Buffered(identity), Buffered(lambda x: 2 * x), dict(x=(2,))),
    ("another shape", lambda x: x[:, :-1], identity, dict(x=(2, 2))),
    ("an axis too many", lambda x: x[None], identity, dict(x=(2, 2))),
    ("an output too many", lambda x: (x, x), identity, dict(x=(2, 2))),
    ("padding law p for the border", transposed,
     lambda x, k: F.conv2d(interleaved(x, 2, 0, 0), F.rot180(k)), FORMS),
    ("masked out", lambda x: np.ma.masked_array(x, x is not None), lambda x: 2 * x, dict(x=(2,))),
    ("nothing at all", lambda x: x[3:], lambda x: 2 * x[3:], dict(x=(3,))),
    ("infinite on both sides", lambda x: x * np.inf, lambda x: 2 * x * np.inf, dict(x=(2,))),
]  # fmt: skip


def rows(table):
    return [pytest.param(*row, id=name.replace(" ", "-")) for name, *row in table]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflow and inf * 0 are what is planted
@pytest.mark.parametrize(("left", "right", "question"), rows(PLANTED))
def test_a_planted_error_is_refuted_by_a_witness(left, right, question):
    verdict = prove(left, right, **question)
    assert str(verdict).startswith("REFUTED for ")
    assert differ(verdict, left, right)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("left", "right", "question"), rows(DOUBTFUL))
def test_a_planted_error_that_rounds_or_cheats_is_refuted_or_refused(left, right, question):
    answer = verdict_or_refusal(left, right, **question)
    if isinstance(answer, str):
        assert re.match(r"prove: [^\n]{20,}$", answer)
    else:
        assert str(answer).startswith("REFUTED for ")
        assert differ(answer, left, right)


def test_the_tables_name_each_error_once():
    names = [name for name, *_ in PLANTED + DOUBTFUL]
    assert len(set(names)) == len(names) >= 30


# Soundness: true claims. None may be refuted.


def by_windows(x, k):
    return np.einsum("ijuv,uv->ij", sliding_window_view(x, k.shape), k)


def by_tensordot(x, k):
    return np.tensordot(sliding_window_view(x, k.shape), k, axes=2)


def by_matrix(x, k):
    """The kernel written into a matrix, a row for each output."""
    H, W = (n - m + 1 for n, m in zip(x.shape, k.shape, strict=True))
    A = np.zeros((H, W, *x.shape), k.dtype)
    for i, j in np.ndindex(H, W):
        A[i, j, i : i + k.shape[0], j : j + k.shape[1]] = k
    return (A.reshape(H * W, -1) @ x.reshape(-1)).reshape(H, W)


def by_fourier(x, k, size=(8, 8)):
    y = np.fft.irfft2(np.fft.rfft2(x, size) * np.fft.rfft2(k, size), size)
    return y[: x.shape[0] + k.shape[0] - 1, : x.shape[1] + k.shape[1] - 1]


def single_precision_loop(x, k):
    y = np.zeros((x.shape[0] + k.shape[0] - 1, x.shape[1] + k.shape[1] - 1), np.float32)
    for i, j in np.ndindex(x.shape):
        y[i : i + k.shape[0], j : j + k.shape[1]] += x[i, j] * k
    return y


def unpooled_and_pooled(x):
    y, places = F.max_pool2d(x * x + 1, 2, return_indices=True)
    return F.max_pool2d(F.max_unpool2d(y, places, 2), 2)


def box_sums(x):
    total = np.pad(np.cumsum(np.cumsum(x, 0), 1), ((1, 0), (1, 0)))
    return total[2:, 2:] - total[:-2, 2:] - total[2:, :-2] + total[:-2, :-2]


PROVED, LINEAR, EVIDENCE = "PROVED", "PROVED GIVEN LINEARITY", "EVIDENCE"
BILINEAR = dict(mode="bilinear", align_corners=True)

# name, the status it must have, left, right, question
TRUE = [
    ("itself", PROVED, identity, identity, dict(x=(2, 2))),
    ("the slide's loop", PROVED, F.conv2d, loops.conv2d, XK),
    ("windows and einsum", PROVED, F.conv2d, by_windows, XK),
    ("windows and tensordot", PROVED, F.conv2d, by_tensordot, XK),
    ("a matrix", PROVED, F.conv2d, by_matrix, XK),
    ("zeros around by np.pad", PROVED, lambda x, k: F.conv2d(x, k, padding=2),
     lambda x, k: F.conv2d(np.pad(x, 2), k), XK),
    ("padding law", PROVED, lambda x, k: F.conv_transpose2d(x, k, stride=2, padding=1),
     lambda x, k: F.conv2d(interleaved(x, 2, 2, 2), F.rot180(k)), dict(x=(3, 3), k=(4, 4))),
    ("dilation is a kernel with zeros", PROVED, lambda x, k: F.conv2d(x, k, dilation=2),
     lambda x, k: F.conv2d(x, interleaved(k, 2, 0, 0)), dict(x=(6, 6), k=(3, 3))),
    ("channels swapped", PROVED, lambda x, w: F.conv_transpose2d(x, w),
     lambda x, w: F.fractionally_strided_conv2d(x, F.rot180(w).swapaxes(0, 1)), CHANNELS),
    ("groups apart", PROVED, lambda x, w: F.conv2d(x, w, groups=2),
     lambda x, w: np.concatenate([F.conv2d(x[:, :2], w[:2]), F.conv2d(x[:, 2:], w[2:])], 1), GROUPS),
    ("transposed is the gradient", PROVED, lambda y, k: F.conv_transpose2d(y, k, stride=2),
     lambda y, k: F.conv2d.__wrapped__(np.zeros((5, 4), k.dtype), k, stride=2)[1][0](y),
     dict(y=(2, 2), k=(3, 2))),
    ("bilinear is a transposed convolution", PROVED,
     lambda x: F.conv_transpose2d(x, F.bilinear_kernel(3, exact=True), stride=3, padding=2),
     lambda x: F.interpolate(x, size=(7, 7), **BILINEAR), dict(x=(3, 3))),
    ("nearest by np.kron", PROVED, lambda x: F.interpolate(x, scale_factor=2),
     lambda x: np.kron(x, np.ones((2, 2), int)), dict(x=(2, 3))),
    ("means by sums of sums", PROVED, lambda x: F.avg_pool2d(x, 2, 1),
     lambda x: box_sums(x) / 4, dict(x=(3, 4))),
    ("mean of means", PROVED, F.mean, lambda x: np.mean(F.avg_pool2d(x, 2)), dict(x=(4, 4))),
    ("variance", PROVED, lambda x: ((x - x.mean()) ** 2).mean(),
     lambda x: (x * x).mean() - x.mean() ** 2, dict(x=(5,))),
    ("unpooled at given places", PROVED,
     lambda x: F.max_unpool2d(x, np.array([[0, 3], [9, 10]]), 2)[0, 3], lambda x: x[0, 1],
     dict(x=(2, 2))),
    ("gradient of unpooling", PROVED,
     lambda dy: F.max_unpool2d.__wrapped__(0 * dy[:2, :2], np.array([[0, 3], [9, 10]]), 2)[1][0](dy),
     lambda dy: dy.ravel()[[0, 3, 9, 10]].reshape(2, 2), dict(dy=(4, 4))),
    ("pyramid pooling of a divisible size", PROVED, lambda x: F.adaptive_avg_pool2d(x, 2),
     lambda x: F.avg_pool2d(x, 2), dict(x=(4, 4))),
    ("two 1x1 convolutions of a concatenation", PROVED,
     lambda x, z, w: F.conv2d(F.cat([x, z], 1), w),
     lambda x, z, w: F.conv2d(x, w[:, :2]) + F.conv2d(z, w[:, 2:]),
     dict(x=(1, 2, 2, 2), z=(1, 1, 2, 2), w=(2, 3, 1, 1))),
    ("dense is a convolution", PROVED, lambda x, w: F.linear(x.reshape(1, -1), w.reshape(2, -1)),
     lambda x, w: F.conv2d(x, w)[:, :, 0, 0], dict(x=(1, 2, 2, 2), w=(2, 2, 2, 2))),
    ("binomials", PROVED, lambda x, z: (x + z) ** 3,
     lambda x, z: x**3 + 3 * x * x * z + 3 * x * z * z + z**3, dict(x=(2,), z=(2,))),
    ("holes divided", None, lambda x, k: F.conv_transpose2d(x, k, stride=3) / 2,
     lambda x, k: F.conv_transpose2d(x / 2, k, stride=3), dict(x=(2, 2), k=(2, 2))),
    ("a constant", PROVED, lambda x: np.zeros(x.shape, int), lambda x: x - x, dict(x=(2,))),
    ("a loop that stores floats", LINEAR, student_transposed, loops.transpose_convolution, FORMS),
    ("a loop that stores integers", LINEAR, lambda x, k: student_convolution(x, k, int),
     F.conv2d, FORMS),
    ("halves as floats", LINEAR, lambda x: 0.5 * x, lambda x: x / 2, dict(x=(3,))),
    ("conjugates", None, lambda x, z: np.vdot(x, z), lambda x, z: (x * z).sum(),
     dict(x=(2, 2), z=(2, 2))),
    ("maximum of maxima", EVIDENCE, lambda x: F.max_pool2d(x, 4),
     lambda x: F.max_pool2d(F.max_pool2d(x, 2), 2), dict(x=(4, 4))),
    ("pool after unpool", EVIDENCE, unpooled_and_pooled, lambda x: F.max_pool2d(x * x + 1, 2),
     dict(x=(4, 4))),
    ("relu by magnitude", EVIDENCE, F.relu, lambda x: (x + abs(x)) // 2, dict(x=(2, 2))),
    ("maximum by relu", EVIDENCE, np.maximum, lambda x, z: x + F.relu(z - x), dict(x=(3,), z=(3,))),
    ("positive and negative part", None, lambda x: F.relu(x) - F.relu(-x), identity, dict(x=(3,))),
    ("sorting keeps the sum", None, lambda x: np.sort(x).sum(), np.sum, dict(x=(4,))),
    ("comparisons", EVIDENCE, lambda x: x > 0, lambda x: ~(x <= 0), dict(x=(3,))),
    ("squares keep the order of sizes", EVIDENCE,
     lambda x: np.maximum(x[0] ** 2, x[1] ** 2) ** 2, lambda x: np.maximum(x[0] ** 4, x[1] ** 4),
     dict(x=(2, 3))),
    ("relu and the mean of one", EVIDENCE, lambda x: F.avg_pool2d(F.relu(x), 1), F.relu,
     dict(x=(2, 2))),
    ("bilinear between maxima", EVIDENCE,
     lambda x: F.interpolate(F.max_pool2d(x, 2), size=(3, 3), **BILINEAR)[::2, ::2],
     lambda x: F.max_pool2d(x, 2), dict(x=(4, 4))),
    ("products by Fourier, rounded", LINEAR, lambda x, k: np.rint(by_fourier(x, k)),
     lambda x, k: F.conv_transpose2d(x, k), FORMS),
]  # fmt: skip

# True claims whose floats round: a refusal that says so is right, a refutation is not.
ROUNDING = [
    ("products by Fourier", by_fourier, lambda x, k: F.conv_transpose2d(x, k), FORMS),
    ("a loop in single precision", single_precision_loop, lambda x, k: F.conv_transpose2d(x, k), FORMS),
    ("a loop in single precision and a bias", lambda x, k: single_precision_loop(x, k) + 1,
     lambda x, k: F.conv_transpose2d(x, k) + 1, FORMS),
    ("tenths as floats", lambda x: 0.1 * x, lambda x: x / 10, dict(x=(3,))),
    ("thirds as floats", lambda x: np.mean(x * 1.0), lambda x: (x / 3).sum(), dict(x=(3,))),
    ("sums in another order", lambda x: np.sum(x * 0.1), lambda x: 0.1 * np.sum(x[::-1]), dict(x=(5,))),
    ("kernels of floats", lambda x: F.conv2d(x, F.bilinear_kernel(3, dtype=np.float64)),
     lambda x: F.conv2d(F.conv2d(x, np.array([[1, 2, 3, 2, 1]]) / 3), np.array([[1, 2, 3, 2, 1]]).T / 3),
     dict(x=(5, 5))),
    ("fourth powers, one side in floats", lambda x: F.relu(x) ** 4,
     lambda x: F.relu(x).astype(float) ** 4, dict(x=(2,))),
    ("what cancels in floats", lambda x: (F.relu(x) + 1.0) ** 6 - F.relu(x) ** 6.0,
     lambda x: sum(c * F.relu(x) ** n for n, c in enumerate((1, 6, 15, 20, 15, 6))), dict(x=(2,))),
    ("nothing is equal to itself", lambda x: x * np.nan, lambda x: x * np.nan, dict(x=(2,))),
]  # fmt: skip


@pytest.mark.parametrize(("status", "left", "right", "question"), rows(TRUE))
def test_a_true_claim_is_never_refuted(status, left, right, question):
    verdict = prove(left, right, **question)
    assert verdict.status == status if status else verdict.holds
    assert str(verdict).startswith(f"{verdict.status} for ")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("left", "right", "question"), rows(ROUNDING))
def test_a_true_claim_that_rounds_is_held_or_refused_but_never_refuted(left, right, question):
    answer = verdict_or_refusal(left, right, **question)
    assert re.search("round|nan", answer) if isinstance(answer, str) else answer.holds


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_analytic_claim_outside_its_domain_is_not_refuted():
    answer = verdict_or_refusal(np.log, np.log, x=(3,), analytic=True)
    assert "nan" in answer if isinstance(answer, str) else answer.holds


def test_the_tables_of_true_claims_are_large_enough():
    assert len(TRUE) + len(ROUNDING) >= 25
