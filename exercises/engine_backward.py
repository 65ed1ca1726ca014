"""The backward pass of a small engine.

A program is a list of steps. Each step takes values that are there already and makes a new one;
the last value is the loss, a single number. One walk backwards over the steps finds the gradient
of the loss in every array the program began with: each step is handed dy, the gradient of what it
made, and hands to each of its inputs dy times the slope between them. That is the chain rule.

Values are numbered: the arrays come first, 0, 1, ..., then the results of the steps, in order.

    gradients([["mul", 0, 1], ["sum", 2]], x, y)        value 2 is x * y, value 3 the loss, sum(x * y)

You write the two halves of the machine: what one step does with dy, and the walk over all steps.

Source: Bonn University, MA-INF 4308 (2023), "Fully Convolutional Networks (FCN)", "Backprop";
University of Waterloo, "Transpose Convolution: other names", loss gradient.
"""

import numpy as np

STEPS = {
    # entry by entry; the shapes may differ as far as NumPy can broadcast them
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    # (I, J) x (J, K) -> (I, K)
    "matmul": lambda a, b: a @ b,
    "relu": lambda a: np.maximum(a, 0),
    # of all entries: shape ()
    "sum": lambda a: a.sum(),
}


def run(program, arrays):
    """The forward pass, given: the list of all values, the loss last."""
    values = list(arrays)
    for name, *numbers in program:
        values.append(STEPS[name](*(values[number] for number in numbers)))
    return values


def pull_back(op, dy, *inputs):
    """The gradients of one step in its inputs, from the gradient dy of what it made.

        dx[i] = sum over j of dy[j] * (slope of y[j] along x[i]),    y = STEPS[op](*inputs)

    op: a name in STEPS; dy: an array shaped like y; inputs: one or two arrays.
    -> a list of as many arrays, each shaped like its input. "relu" has slope 0 where its input is 0.
    Where broadcasting used an entry of an input several times, all its slopes count. The arguments
    are left as they are.
    """
    ### BEGIN SOLUTION
    if op == "matmul":
        a, b = inputs
        return [dy @ b.T, a.T @ dy]
    if op == "relu":
        return [dy * (inputs[0] > 0)]
    if op == "sum":
        return [dy * np.ones(inputs[0].shape)]
    partials = [dy, dy] if op == "add" else [dy * inputs[1], dy * inputs[0]]
    dxs = []
    for dx, x in zip(partials, inputs, strict=True):
        dx = dx.sum(axis=tuple(range(dx.ndim - x.ndim)))  # axes that broadcasting put in front
        repeated = tuple(axis for axis, size in enumerate(x.shape) if size == 1)
        dxs.append(dx.sum(axis=repeated, keepdims=True))
    return dxs
    ### END SOLUTION


def gradients(program, *arrays):
    """The gradient of the program's loss in each of its arrays.

        gradient of value n = sum, over every use of n in a step, of what that step hands back to it

    program: a list of steps [op, number] or [op, number, number], the last one making the loss, of
    shape (); arrays: values 0, 1, ...
    -> a list with one array for each of `arrays`, of its shape: dL/d(array), zeros if the loss does
    not depend on it. The arrays are left as they are.
    """
    ### BEGIN SOLUTION
    values = run(program, arrays)
    grads = [np.zeros(np.shape(value)) for value in values]
    grads[-1] = np.ones(())  # dL/dL
    for step in reversed(range(len(program))):
        op, *operands = program[step]
        dy = grads[len(arrays) + step]
        dxs = pull_back(op, dy, *(values[n] for n in operands))
        for n, dx in zip(operands, dxs, strict=True):
            grads[n] = grads[n] + dx
    return grads[: len(arrays)]
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg import Tensor
from minseg.grading.exercise import call, check, holds, right, wrong

LIBRARY = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "matmul": lambda a, b: a @ b,
    "relu": F.relu,
    "sum": lambda a: a.sum(),
}


def library_pull_back(op, dy, *inputs):
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    LIBRARY[op](*tensors).backward(dy)
    return [tensor.grad for tensor in tensors]


def library_gradients(program, *arrays):
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    values = list(tensors)
    for op, *operands in program:
        values.append(LIBRARY[op](*(values[n] for n in operands)))
    values[-1].backward()
    return [np.zeros(t.shape) if t.grad is None else t.grad for t in tensors]


REFERENCE = {"pull_back": library_pull_back, "gradients": library_gradients}
HINTS = [
    """
    Let x = [3] and the program be y = x * x, L = sum(y). Raise x by a little: by how much does L
    rise? The step "mul" hands back two gradients, and both are for value 0. What must happen to
    the first when the second arrives?
    """,
    """
    Keep one gradient per value: zeros at first, and 1 for the loss. Walk over the steps from the
    last to the first: then everything that uses a value has handed back its part before the value
    itself is asked. In pull_back, let the shapes lead: dy of a matmul is (I, K), and only one product
    of it with b (J, K), turned or not, has a's shape (I, J). An entry that broadcasting used twice has
    two users as well.
    """,
    """
    for step in <from the last to the first>:
        op, *operands = program[step]
        dxs = pull_back(op, <gradient of the value this step made>, *<its inputs' values>)
        for n, dx in zip(operands, dxs, strict=True):
            grads[n] = <what was there, and dx>
    And in pull_back, for "add" and "mul": first sum dx over the axes in front that x has not
    (dx.ndim - x.ndim of them), then, with keepdims=True, over the axes where x has size 1.
    """,
]


def mixed(draw, *shape):
    """Whole numbers without 0, as many above it as below, in random places."""
    signs = draw.rng.permuted(np.resize([1.0, -1.0], int(np.prod(shape)))).reshape(shape)
    return signs * abs(draw.integers(*shape))


@check("one step: add, mul and sum")
def one_step(draw):
    yield call("pull_back", "add", draw.integers(2), draw.integers(2), draw.integers(2))
    yield call("pull_back", "mul", draw.integers(2), draw.integers(2), draw.integers(2))
    yield call("pull_back", "sum", draw.integers(), draw.integers(3))
    yield call("pull_back", "mul", *(draw.integers(2, 3) + 0.5 for _ in range(3)))
    yield call("pull_back", "sum", draw.integers(), draw.integers(2, 3))


@check("one step: relu lets dy through where its input is positive")
def relu_step(draw):
    yield call("pull_back", "relu", mixed(draw, 4), mixed(draw, 4))
    yield call("pull_back", "relu", mixed(draw, 2), np.array([0.0, draw.between(1, 9)]))
    yield call("pull_back", "relu", mixed(draw, 3, 4), mixed(draw, 3, 4))
    x = mixed(draw, 2, 5)
    x[0, :2] = 0
    yield call("pull_back", "relu", mixed(draw, 2, 5), x)


@check("one step: matmul")
def matmul_step(draw):
    # Square, and no matrix equal to its transpose.
    yield call("pull_back", "matmul", *(draw.distinct(4, 4)[:2, :2] for _ in range(3)))
    yield call("pull_back", "matmul", draw.integers(1, 4), draw.integers(1, 2), draw.integers(2, 4))
    yield call("pull_back", "matmul", draw.integers(2, 4), draw.integers(2, 3), draw.integers(3, 4))


@check("one step: what broadcasting used several times")
def broadcast_step(draw):
    yield call("pull_back", "add", draw.integers(2), draw.integers(2), draw.integers(1))
    yield call("pull_back", "add", draw.integers(2, 3), draw.integers(3), draw.integers(2, 3))
    yield call("pull_back", "mul", draw.integers(2, 3), draw.integers(2, 1), draw.integers(1, 3))
    yield call(
        "pull_back", "mul", draw.integers(2, 3, 2), draw.integers(2, 3, 2), draw.integers(3, 1)
    )
    yield call("pull_back", "add", draw.integers(2, 3), draw.integers(2, 3), draw.integers())


@check("a chain of steps")
def chain(draw):
    yield call("gradients", [["relu", 0], ["sum", 1]], mixed(draw, 2))
    yield call("gradients", [["mul", 0, 1], ["sum", 2]], draw.integers(2), draw.integers(2))
    program = [["relu", 0], ["mul", 1, 2], ["sum", 3]]
    yield call("gradients", program, mixed(draw, 2, 3), draw.integers(2, 3))
    program = [["mul", 0, 1], ["relu", 3], ["mul", 4, 2], ["sum", 5]]
    yield call("gradients", program, *(mixed(draw, 4) for _ in range(3)))


@check("a value used twice: its gradients add up", points=2)
def used_twice(draw):
    yield call("gradients", [["mul", 0, 0], ["sum", 1]], draw.integers(2))
    # "add" may hand the same array back twice; a sum made in it would change both.
    one_array_twice = [["mul", 0, 0], ["add", 0, 1], ["add", 2, 3], ["sum", 4]]
    yield call("gradients", one_array_twice, draw.integers(2), draw.integers(2))
    diamond = [["mul", 0, 1], ["mul", 2, 0], ["add", 3, 2], ["sum", 4]]
    yield call("gradients", diamond, draw.integers(2), draw.integers(2))
    diamond = [["mul", 0, 1], ["relu", 2], ["mul", 2, 0], ["mul", 3, 4], ["sum", 5]]
    yield call("gradients", diamond, mixed(draw, 2, 4), abs(draw.integers(2, 4)))
    doubling = [["add", 0, 0], ["add", 1, 1], ["add", 2, 2], ["mul", 3, 0], ["sum", 4]]
    yield call("gradients", doubling, draw.integers(5))


@check("a small network, and an array that its loss does not need")
def network(draw):
    x, w, b = draw.integers(2, 3), draw.integers(3, 2), draw.integers(2)
    layer = [["matmul", 0, 1], ["add", 3, 2], ["mul", 4, 4], ["sum", 5]]
    yield call("gradients", layer, x, w, b)
    two_layers = [["matmul", 0, 1], ["add", 6, 2], ["relu", 7], ["matmul", 8, 3], ["add", 9, 4],
                  ["mul", 10, 10], ["relu", 5], ["sum", 11]]  # fmt: skip
    yield call("gradients", two_layers, mixed(draw, 4, 3), mixed(draw, 3, 4), draw.integers(4),
               draw.integers(4, 2), draw.integers(1, 2), draw.integers(2, 2))  # fmt: skip


@holds("shapes: each gradient has the shape of its array")
def shapes(draw):
    arrays = draw.integers(2, 3), draw.integers(3, 2), draw.integers(2)
    program = [["matmul", 0, 1], ["add", 3, 2], ["sum", 4]]
    (grads,) = yield [call("gradients", program, *arrays)]
    return [g.shape for g in grads] == [x.shape for x in arrays]


@holds("pull_back is linear in dy")
def linear(draw):
    d, e, x, y = (mixed(draw, 2, 3) for _ in range(4))
    of_d, of_e, of_both = yield [call("pull_back", "mul", dy, x, y) for dy in (d, e, d + e)]
    return all((both == a + b).all() for a, b, both in zip(of_d, of_e, of_both, strict=True))


@holds("poking agrees: (L(x + v) - L(x - v)) / 2 = <gradient, v>, exact for this quadratic L")
def poking(draw):
    x, v, c = draw.integers(3), draw.integers(3), draw.integers(3)
    program = [["add", 0, 0], ["mul", 2, 2], ["mul", 3, 1], ["sum", 4]]
    (grads,) = yield [call("gradients", program, x, c)]
    after, before = (run(program, [x + sign * v, c])[-1] for sign in (1, -1))
    return (after - before) / 2 == (grads[0] * v).sum()


overwrites = wrong(
    "gradients",
    "gradients in which the last one to arrive replaces those before it. A value that is used "
    "twice is handed two gradients, and its own is their sum",
    {"grads[n] + dx": "dx"},
)


forwards = wrong(
    "gradients",
    "zeros. Either the walk has no beginning, for the gradient of the loss in itself is 1; or it "
    "goes from the first step to the last: a step can only hand back what it has been handed, so "
    "all that use its result must have had their turn",
    {"reversed(range(len(program)))": "range(len(program))"},
)


first_input_only = wrong(
    "gradients",
    "gradients that only the first input of a step is handed. A step of two inputs hands back two",
    {"zip(operands, dxs, strict=True)": "list(zip(operands, dxs, strict=True))[:1]"},
)


@wrong("gradients", "what a hasty walk gives: as soon as something arrives at a value, all that is there "
       "is passed on, and when the second part comes, the first goes out again. A value must wait "
       "for all its users")  # fmt: skip
def hasty(program, *arrays):
    values = run(program, arrays)
    grads = [np.zeros(np.shape(value)) for value in values]
    grads[-1] = np.ones(())

    def pass_on(number):
        if number < len(arrays):
            return
        op, *operands = program[number - len(arrays)]
        dxs = pull_back(op, grads[number], *(values[n] for n in operands))
        for n, dx in zip(operands, dxs, strict=True):
            grads[n] = grads[n] + dx
            pass_on(n)

    pass_on(len(values) - 1)
    return grads[: len(arrays)]


not_summed = wrong(
    "pull_back",
    "gradients shaped like the result. Broadcasting used an entry of the smaller input several "
    "times, and it has the sum of all these gradients",
    {"return dxs": "return partials"},
)


relu_of_gradient = wrong(
    "pull_back",
    "a relu that looks at the sign of dy. What it lets through on the way back is decided by the "
    "input it had on the way there",
    {"dy * (inputs[0] > 0)": "np.maximum(dy, 0)"},
)


not_transposed = wrong(
    "pull_back",
    "a matmul without the transposes. For square matrices the shapes do not betray it; for others "
    "they tell which of the two to transpose",
    {"dy @ b.T, a.T @ dy": "dy @ b, a @ dy"},
)


slopes_alone = wrong(
    "pull_back",
    "a mul that hands back the slopes alone. The chain rule multiplies them by dy",
    {"dy * inputs[1], dy * inputs[0]": "inputs[1], inputs[0]"},
)


own_factor = wrong(
    "pull_back",
    "a mul that hands back to each factor dy times itself. The slope of a * b along a is b",
    {"dy * inputs[1], dy * inputs[0]": "dy * inputs[0], dy * inputs[1]"},
)


relu_open_at_0 = wrong(
    "pull_back",
    "a relu with slope 1 where its input is 0. There 0 is asked",
    {"inputs[0] > 0": "inputs[0] >= 0"},
)


exchanged = wrong(
    "pull_back",
    "a matmul with its two gradients exchanged. The first belongs to the first input; for square "
    "matrices the shapes do not betray it",
    {"dy @ b.T, a.T @ dy": "a.T @ dy, dy @ b.T"},
)


first_not_transposed = wrong(
    "pull_back",
    "a matmul whose gradient of a lacks a transpose: dy is (I, K), b is (J, K), and (I, J) is asked",
    {"dy @ b.T": "dy @ b"},
)


second_not_transposed = wrong(
    "pull_back",
    "a matmul whose gradient of b lacks a transpose: a is (I, J), dy is (I, K), and (J, K) is asked",
    {"a.T @ dy": "a @ dy"},
)


@right("gradients", "each value asks its users, and remembers the answer")
def asks_users(program, *arrays):
    values = run(program, arrays)
    known = {len(values) - 1: np.ones(())}

    def gradient(number):
        if number not in known:
            total = np.zeros(np.shape(values[number]))
            for step, (op, *operands) in enumerate(program):
                if number in operands:
                    dy = gradient(len(arrays) + step)
                    dxs = pull_back(op, dy, *(values[n] for n in operands))
                    total = total + sum(
                        dx for n, dx in zip(operands, dxs, strict=True) if n == number
                    )
            known[number] = total
        return known[number]

    return [gradient(number) for number in range(len(arrays))]


@right("gradients", "the sum over all paths from the loss, float32")
def all_paths(program, *arrays):
    values = run(program, arrays)
    grads = [np.zeros(x.shape, np.float32) for x in arrays]

    def walk(number, dy):
        if number < len(arrays):
            grads[number] += dy.astype(np.float32)
            return
        op, *operands = program[number - len(arrays)]
        dxs = pull_back(op, dy, *(values[n] for n in operands))
        for n, dx in zip(operands, dxs, strict=True):
            walk(n, dx)

    walk(len(values) - 1, np.ones(()))
    return grads


@right("gradients", "forward mode: every entry is poked by an infinitely small number")
def forward_mode(program, *arrays):
    grads = [np.zeros(x.shape) for x in arrays]
    values = run(program, arrays)
    for number, x in enumerate(arrays):
        for place in np.ndindex(x.shape):
            slopes = [np.zeros(a.shape) for a in arrays]
            slopes[number][place] = 1
            for op, *operands in program:
                a, da = values[operands[0]], slopes[operands[0]]
                b, db = values[operands[-1]], slopes[operands[-1]]
                if op == "add":
                    slopes.append(da + db)
                elif op == "mul":
                    slopes.append(da * b + a * db)
                elif op == "matmul":
                    slopes.append(da @ b + a @ db)
                elif op == "relu":
                    slopes.append(np.where(a > 0, da, 0))
                else:
                    slopes.append(da.sum())
            grads[number][place] = slopes[-1]
    return grads


@right("gradients", "the imaginary part of a loss at a complex input; Fortran order")
def complex_step(program, *arrays):
    grads = []
    for number, x in enumerate(arrays):
        grad = np.zeros(x.shape, order="F")
        for place in np.ndindex(x.shape):
            values = [a.astype(complex) for a in arrays]
            values[number][place] += 1e-30j
            for op, *operands in program:
                a, b = values[operands[0]], values[operands[-1]]
                if op == "relu":
                    values.append(np.where(a.real > 0, a, 0))
                elif op == "sum":
                    values.append(a.sum())
                else:
                    values.append({"add": a + b, "mul": a * b}[op] if op != "matmul" else a @ b)
            grad[place] = values[-1].imag / 1e-30
        grads.append(grad)
    return grads


@right("pull_back", "einsum for products and sums alike")
def einsums(op, dy, *inputs):
    if op == "matmul":
        a, b = inputs
        return [np.einsum("ik,jk->ij", dy, b), np.einsum("ij,ik->jk", a, dy)]
    if op == "relu":
        return [np.where(np.heaviside(inputs[0], 0) == 1, dy, 0 * dy)]
    if op == "sum":
        return [np.full_like(inputs[0], dy)]
    partials = [dy, dy] if op == "add" else [dy * inputs[1], dy * inputs[0]]
    dxs = []
    for dx, x in zip(partials, inputs, strict=True):
        letters = "abcdefgh"[: np.ndim(dy)]
        shape = (1,) * (np.ndim(dy) - x.ndim) + x.shape
        kept = "".join(c for c, size in zip(letters, shape, strict=True) if size > 1)
        dxs.append(np.einsum(f"{letters}->{kept}", dx).reshape(x.shape))
    return dxs


@right("pull_back", "loops: every entry of dy is handed to the entries it was made from")
def entry_by_entry(op, dy, *inputs):
    dxs = [np.zeros(x.shape) for x in inputs]
    if op == "matmul":
        a, b = inputs
        for i, k in np.ndindex(dy.shape):
            for j in range(a.shape[1]):
                dxs[0][i, j] += dy[i, k] * b[j, k]
                dxs[1][j, k] += dy[i, k] * a[i, j]
        return dxs
    if op in ("relu", "sum"):
        for place in np.ndindex(inputs[0].shape):
            slope = inputs[0][place] > 0 if op == "relu" else 1
            dxs[0][place] = slope * dy[place if op == "relu" else ()]
        return dxs
    spread = np.broadcast_arrays(*inputs)
    for number, x in enumerate(inputs):
        places = np.broadcast_to(np.arange(x.size).reshape(x.shape), np.shape(dy))
        for place in np.ndindex(np.shape(dy)):
            slope = 1 if op == "add" else spread[1 - number][place]
            dxs[number].reshape(-1)[places[place]] += dy[place] * slope
    return dxs
