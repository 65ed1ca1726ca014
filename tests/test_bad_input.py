"""Bad input gets one sentence that names the function, the argument, what came and what would fit.

The sentence comes before anything is computed: while the table below is walked through, nothing
that computes may run.
"""

import numpy as np
import pytest

import minseg.functional as F
from minseg import models, nn
from minseg.functional import loss, pool
from minseg.metrics import ConfusionMatrix
from minseg.optim import SGD, Adam
from minseg.tensor import Tensor
from minseg.windows import Windows

X = np.ones((2, 3, 8, 8), np.float32)
W = np.ones((8, 3, 3, 3), np.float32)  # conv2d's; 8 channels out
V = np.ones((3, 8, 3, 3), np.float32)  # conv_transpose2d's
PLANE, KERNEL = X[0, 0], W[0, 0]
LOGITS, TARGET = np.zeros((2, 4, 3), np.float32), np.array([[0, 1, 2], [3, 255, 0]])
PLACES = np.zeros(X.shape, int)
RNG = np.random.default_rng(0)


def put(array, index, value):
    array = array.copy()
    array[index] = value
    return array


CALLS = [
    # convolution
    (lambda: F.conv2d([[1.0]], KERNEL), TypeError, r"conv2d: x must be an array, got list"),
    (lambda: F.conv2d(X, 3), TypeError, r"conv2d: w must be an array, got int"),
    (lambda: F.conv2d(X.astype(str), W), TypeError, r"conv2d: x must hold real numbers, got .*U32"),
    (lambda: F.conv2d(X[0], W), ValueError,
     r"conv2d: x must have shape \(N, C, H, W\) or one plane \(H, W\); add a batch axis: x\[None\], "
     r"got \(3, 8, 8\)"),
    (lambda: F.conv2d(X[:, :, :0], W), ValueError, r"x must hold .* pixel, got \(2, 3, 0, 8\)"),
    (lambda: F.conv2d(X, W[0]), ValueError,
     r"conv2d: w must have shape \(O, C/groups, KH, KW\), got \(3, 3, 3\)"),
    (lambda: F.conv2d(PLANE, W), ValueError,
     r"conv2d: x is one plane \(8, 8\), so w must have two axes as well, got \(8, 3, 3, 3\)"),
    (lambda: F.conv2d(X, np.ones((8, 4, 3, 3))), ValueError,
     r"^conv2d: x has 3 channels but w expects 4 \(w is \(8, 4, 3, 3\)\)$"),
    (lambda: F.conv2d(X, W, groups=3), ValueError,
     r"conv2d: w's output channels \(8\) must be a multiple of groups \(3\)"),
    (lambda: F.conv2d(X, W, groups=1.0), TypeError, r"conv2d: groups must be an int, got 1.0"),
    (lambda: F.conv2d(X, W, stride=0), ValueError, r"conv2d: stride must be at least 1, got 0"),
    (lambda: F.conv2d(X, W, stride="2"), TypeError, r"conv2d: stride must be an int, got '2'"),
    (lambda: F.conv2d(X, W, dilation=True), TypeError, r"conv2d: dilation must be an int, got True"),
    (lambda: F.conv2d(X, W, stride=(1, 1, 1)), ValueError,
     r"conv2d: stride must be an int or a pair of ints, got \(1, 1, 1\)"),
    (lambda: F.conv2d(X, W, padding=-1), ValueError, r"conv2d: padding must be at least 0, got -1"),
    (lambda: F.conv2d(X, W, padding="full"), ValueError,
     r"conv2d: padding must be one of 'same', 'valid', got 'full'"),
    (lambda: F.conv2d(X, W, padding="same", stride=2), ValueError,
     r'conv2d: padding="same" needs stride 1, got stride 2'),
    (lambda: F.conv2d(X, W, dilation=4), ValueError,
     r"conv2d: w \(8, 3, 3, 3\) with dilation \(4, 4\) reaches over 9 pixels, more than x .* \(8\)"),
    (lambda: F.conv2d(X, W, np.ones(3)), ValueError,
     r"conv2d: b must have shape \(8,\), one number per output channel, got \(3,\)"),
    (lambda: F.conv2d(X, W, [0.0] * 8), TypeError, r"conv2d: b must be an array, got list"),
    (lambda: F.conv_transpose2d(X, W), ValueError,
     r"conv_transpose2d: x has 3 channels but w expects 8 \(w is \(8, 3, 3, 3\)\)"),
    (lambda: F.conv_transpose2d(X, V, groups=2), ValueError,
     r"conv_transpose2d: x's channels \(3\) must be a multiple of groups \(2\)"),
    (lambda: F.conv_transpose2d(X, V, stride=2, output_padding=2), ValueError,
     r"conv_transpose2d: output_padding must be smaller than stride or dilation, got "
     r"output_padding 2 with stride 2 and dilation 1"),
    (lambda: F.conv_transpose2d(X, V, padding=5), ValueError,
     r"conv_transpose2d: padding 5 crops everything away: x \(2, 3, 8, 8\) .* size \(0, 0\)"),
    (lambda: F.fractionally_strided_conv2d(X, V), ValueError,
     r"fractionally_strided_conv2d: x has 3 channels but w expects 8"),
    (lambda: F.fractionally_strided_conv2d(X, W, output_padding=-1), ValueError,
     r"fractionally_strided_conv2d: output_padding must be at least 0, got -1"),
    (lambda: F.rot180(np.ones(3)), ValueError, r"rot180: w needs two axes to turn, got shape \(3,\)"),
    (lambda: F.bilinear_kernel(0), ValueError, r"bilinear_kernel: stride must be at least 1, got 0"),
    (lambda: F.bilinear_kernel(2, "cubic"), ValueError,
     r"bilinear_kernel: kind must be one of 'align_corners', 'caffe', got 'cubic'"),
    (lambda: F.output_size(8.0, 3), TypeError, r"output_size: n must be an int, got 8.0"),
    (lambda: F.output_size(8, 3, dilation=4), ValueError,
     r"output_size: a kernel that reaches over 9 pixels does not fit into 8"),
    # pooling
    (lambda: F.max_pool2d("image", 2), TypeError, r"max_pool2d: x must be an array, got str"),
    (lambda: F.max_pool2d(X, 0), ValueError, r"max_pool2d: kernel_size must be at least 1, got 0"),
    (lambda: F.max_pool2d(X, 2, padding=2), ValueError,
     r"max_pool2d: padding 2 must be at most half of kernel_size 2"),
    (lambda: F.max_pool2d(X, 9), ValueError,
     r"max_pool2d: kernel_size 9 with dilation 1 reaches over 9 pixels, more than x .* has \(8\)"),
    (lambda: F.avg_pool2d(PLACES, 2), TypeError, r"avg_pool2d: x holds int64, .*astype\(np.float32\)"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError,
     r"avg_pool2d: divisor_override must be at least 1, got 0"),
    (lambda: F.adaptive_avg_pool2d(X, (3, 0)), ValueError,
     r"adaptive_avg_pool2d: output_size must be at least 1, got 0"),
    (lambda: F.global_avg_pool2d([[1.0]]), TypeError, r"avg_pool2d: x must be an array, got list"),
    (lambda: F.global_max_pool2d([[1.0]]), TypeError, r"max_pool2d: x must be an array, got list"),
    (lambda: F.max_unpool2d(X, X, 2), ValueError,
     r"max_unpool2d: indices must be integers of x's shape .*, got float32 of shape \(2, 3, 8, 8\)"),
    (lambda: F.max_unpool2d(X, PLACES[:1], 2), ValueError, r"got int64 of shape \(1, 3, 8, 8\)"),
    (lambda: F.max_unpool2d(X, PLACES + 256, 2), ValueError,
     r"max_unpool2d: indices must lie in 0..255, the pixels of an output plane \(16, 16\), got 256"),
    (lambda: F.max_unpool2d(X, None, 2), TypeError, r"max_unpool2d: indices must be an array, got None"),
    (lambda: F.max_unpool2d(X, PLACES, 2, output_size="16"), (TypeError, ValueError),
     r"max_unpool2d: output_size must be an int"),
    # resizing
    (lambda: F.interpolate(X), ValueError, r"interpolate: give either size or scale_factor"),
    (lambda: F.interpolate(X, 4, 2), ValueError, r"interpolate: give either size or scale_factor"),
    (lambda: F.interpolate(X, 4, mode="bicubic"), ValueError,
     r"interpolate: mode must be one of 'nearest', 'bilinear', got 'bicubic'"),
    (lambda: F.interpolate(X, 4, align_corners=True), ValueError,
     r'interpolate: align_corners goes with mode="bilinear" only'),
    (lambda: F.interpolate(PLACES, 4, mode="bilinear"), TypeError, r"interpolate: x holds int64"),
    (lambda: F.interpolate(X, (4, 0)), ValueError, r"interpolate: size must be at least 1, got 0"),
    (lambda: F.interpolate(X, scale_factor=-2), ValueError,
     r"interpolate: scale_factor must be a positive number or a pair, got -2"),
    (lambda: F.interpolate(X, scale_factor=0.1), ValueError,
     r"interpolate: scale_factor 0.1 leaves nothing of x \(2, 3, 8, 8\)"),
    # non-linearities and normalisation
    (lambda: F.relu([1.0]), TypeError, r"relu: x must be an array, got list"),
    (lambda: F.leaky_relu(X, "0.1"), TypeError, r"leaky_relu: negative_slope must be .* '0.1'"),
    (lambda: F.sigmoid(1.0), TypeError, r"sigmoid: x must be an array, got float"),
    (lambda: F.tanh(None), TypeError, r"tanh: x must be an array, got NoneType"),
    (lambda: F.softmax(LOGITS, 3), ValueError, r"softmax: dim 3 does not exist in shape \(2, 4, 3\)"),
    (lambda: F.log_softmax(LOGITS, -4), ValueError, r"log_softmax: dim -4 does not exist"),
    (lambda: F.softmax(LOGITS, None), TypeError, r"softmax: dim must be an int, got None"),
    (lambda: F.log_softmax(TARGET), TypeError, r"log_softmax: x holds int64"),
    (lambda: F.dropout(X, 1.5, rng=RNG), ValueError, r"dropout: p is a probability, 0..1, got 1.5"),
    (lambda: F.dropout(X, "half", rng=RNG), (TypeError, ValueError), r"dropout: p .* 'half'"),
    (lambda: F.dropout(X), ValueError, r"dropout: rng is needed while training"),
    (lambda: F.dropout(X, rng=0), TypeError, r"dropout: rng must be a numpy Generator.*, got (0|int)"),
    (lambda: F.batch_norm(PLACES, None, None), TypeError, r"batch_norm: x holds int64"),
    (lambda: F.batch_norm(X[0, 0, 0], None, None), ValueError,
     r"batch_norm: x must have shape \(N, C, ...\), got \(8,\)"),
    (lambda: F.batch_norm(X, np.zeros(4), np.ones(4)), ValueError,
     r"batch_norm: running_mean must have shape \(3,\), got \(4,\)"),
    (lambda: F.batch_norm(X, np.zeros(3), None), ValueError,
     r"batch_norm: give running_mean and running_var together, or neither"),
    (lambda: F.batch_norm(X[:1, :, 0, 0], None, None), ValueError,
     r"batch_norm: while training each channel needs more than one value, got x \(1, 3\)"),
    # losses
    (lambda: F.cross_entropy(LOGITS.tolist(), TARGET), TypeError,
     r"cross_entropy: logits must be an array, got list"),
    (lambda: F.cross_entropy(TARGET, TARGET[:, 0]), TypeError,
     r"cross_entropy: (logits|scores) holds int64"),
    (lambda: F.cross_entropy(LOGITS[0, 0], TARGET), ValueError,
     r"cross_entropy: logits must have shape \(N, K, ...\), got \(3,\)"),
    (lambda: F.cross_entropy(LOGITS, TARGET.astype(float)), TypeError,
     r"cross_entropy: target must hold integer labels, got float64"),
    (lambda: F.cross_entropy(LOGITS, TARGET[:, :2]), ValueError,
     r"cross_entropy: target must have shape \(2, 3\), .*\(2, 4, 3\).*, got \(2, 2\)"),
    (lambda: F.cross_entropy(LOGITS, put(TARGET, (1, 2), 4)), ValueError,
     r"cross_entropy: target holds label 4 at \(1, 2\), but there are 4 classes, 0..3 .* 255 for void"),
    (lambda: F.cross_entropy(LOGITS, put(TARGET, (0, 1), -1)), ValueError, r"label -1 at \(0, 1\)"),
    (lambda: F.cross_entropy(LOGITS, TARGET, np.ones(3)), ValueError,
     r"cross_entropy: weight must have shape \(4,\), one per class, got \(3,\)"),
    (lambda: F.cross_entropy(LOGITS, TARGET, reduction="average"), ValueError,
     r"cross_entropy: reduction must be one of 'mean', 'sum', 'none', got 'average'"),
    (lambda: F.cross_entropy(LOGITS, TARGET, label_smoothing=2), ValueError,
     r"cross_entropy: label_smoothing must lie in 0..1, got 2"),
    (lambda: F.cross_entropy(LOGITS, TARGET, ignore_index=None), TypeError,
     r"cross_entropy: ignore_index must be an int, got None"),
    (lambda: F.nll_loss(LOGITS, TARGET[0]), ValueError, r"nll_loss: target must have shape \(2, 3\)"),
    (lambda: F.nll_loss(LOGITS[0, 0], TARGET), ValueError, r"nll_loss: .* shape \(N, K, ...\), got \(3,\)"),
    # arithmetic
    (lambda: F.linear(X, np.ones((5, 7))), ValueError,
     r"linear: x has shape \(2, 3, 8, 8\) but w expects \(..., 7\)"),
    (lambda: F.linear(X, np.ones((5, 8)), np.ones(4)), ValueError,
     r"linear: b must have shape \(5,\), got \(4,\)"),
    (lambda: F.linear(X, np.ones((5, 8)), [0.0] * 5), TypeError, r"linear: b must be an array, got list"),
    (lambda: F.matmul(np.ones(3), np.ones((3, 2))), ValueError,
     r"matmul: x needs at least two axes, got shape \(3,\)"),
    (lambda: F.matmul(np.ones((2, 3)), np.ones((2, 3))), ValueError,
     r"matmul: x has 3 columns but y has 2 rows \(x is \(2, 3\), y is \(2, 3\)\)"),
    (lambda: F.exp([1.0]), TypeError, r"exp: x must be an array, got list"),
    (lambda: F.log("x"), TypeError, r"log: x must be an array, got str"),
    (lambda: F.sum([1.0]), TypeError, r"sum: x must be an array, got list"),
    (lambda: F.mean(3.0), TypeError, r"mean: x must be an array, got float"),
    (lambda: F.max([1.0]), TypeError, r"max: x must be an array, got list"),
    (lambda: F.sum(X, axis=4), ValueError, r"sum: axis 4 does not exist in shape \(2, 3, 8, 8\)"),
    (lambda: F.mean(X, axis=(1, -3)), ValueError, r"mean: axis \(1, -3\) names one axis twice"),
    (lambda: F.max(X, axis=1.0), TypeError, r"max: axis must be an int, got 1.0"),
    (lambda: F.pad(X, 1), ValueError, r"pad: pad must be \(left, right\) or .*, got 1 for x of shape"),
    (lambda: F.pad(X, (1, 2, 3)), ValueError, r"pad: pad must be .*, got \(1, 2, 3\)"),
    (lambda: F.pad(X, (1, 0.5)), TypeError, r"pad: pad must be an int, got 0.5"),
    (lambda: F.pad(X, (-4, -4)), ValueError,
     r"pad: cropping x of shape \(2, 3, 8, 8\) by \(-4, -4\) leaves nothing"),
    (lambda: F.pad(X, (1, 1), mode="reflect"), ValueError,
     r"pad: mode must be \"constant\", got 'reflect'"),
    (lambda: F.cat(X), TypeError, r"cat: tensors must be a list or tuple of at least one array"),
    (lambda: F.cat([]), TypeError, r"cat: tensors must be a list or tuple of at least one array"),
    (lambda: F.cat([X, [1.0]]), TypeError, r"cat: tensors must be an array, got list"),
    (lambda: F.cat([X, X], dim=4), ValueError, r"cat: dim 4 does not exist in shape \(2, 3, 8, 8\)"),
    (lambda: F.cat([X, X[..., 1:]], dim=1), ValueError,
     r"cat: shapes may differ along dim 1 only, got \(2, 3, 8, 8\) and \(2, 3, 8, 7\)"),
    # tensors
    (lambda: Tensor("image"), TypeError, r"Tensor: data must .* got (str|'image')"),
    (lambda: Tensor(None), TypeError, r"Tensor: data must .* got None"),
    (lambda: Tensor([[1, 2], [3]]), (TypeError, ValueError), r"^Tensor: data "),
    (lambda: Tensor(np.array(["a"])), TypeError, r"Tensor: data must .* got .*U1"),
    (lambda: Tensor(np.array([1j])), TypeError, r"Tensor: data must .* got .*complex128"),
    (lambda: Tensor(PLACES, requires_grad=True), TypeError,
     r"Tensor: only floats have gradients, and data is int64; use data.astype\(np.float32\)"),
    (lambda: Tensor(X) ** Tensor(X), TypeError, r"power: exponent must be a Python number, got "),
    (lambda: Tensor(X).transpose(0, 0, 1, 2), ValueError, r"transpose: .*\(0, 0, 1, 2\)"),
    (lambda: Tensor(X).transpose(0, 1), ValueError, r"transpose: .*\(0, 1\)"),
    (lambda: Tensor(X).reshape(5, 5), ValueError, r"reshape .* size 384 into shape \(5, ?5\)"),
    (lambda: Tensor(X).to("gpu"), ValueError, r'device must be "cpu" or "cuda", got \'gpu\''),
    # layers, networks, optimisers, metrics
    (lambda: nn.Conv2d(3, 8, 3)(X.tolist()), TypeError, r"conv2d: x must be an array, got list"),
    (lambda: nn.BatchNorm2d(3)([1.0]), TypeError, r"(N|n)orm.*: x must be an array, got list"),
    (lambda: nn.BatchNorm2d(4)(X), ValueError, r"batch_norm: running_mean must have shape \(3,\)"),
    (lambda: nn.Sequential(nn.ReLU(), F.relu), TypeError, r"Sequential: .*Module.* got function"),
    (lambda: nn.MaxUnpool2d(2)(X, X), ValueError, r"max_unpool2d: indices must be integers"),
    (lambda: models.build("vgg", 3, 2), ValueError,
     r"models.build: name must be one of fcn, segnet, unet, got 'vgg'"),
    (lambda: models.build("unet", 3, 0), ValueError, r"UNet: num_classes must be at least 1, got 0"),
    (lambda: models.build("fcn", 3, 2, depth=2.0), TypeError, r"FCN: depth must be an int, got 2.0"),
    (lambda: models.build("fcn", 3, 2, skips=3), ValueError,
     r"FCN: skips must lie in 0..2 with 3 poolings, got 3"),
    (lambda: models.build("unet", 3, 2, padding="full"), ValueError, r"UNet: padding must be one of"),
    (lambda: models.build("segnet", 3, 2, skips=1), TypeError, r"SegNet.*'skips'"),
    (lambda: models.build("unet", 0, 2), ValueError, r"in_channels must be at least 1, got 0"),
    (lambda: SGD(nn.ReLU().parameters(), 0.1), ValueError, r"SGD: parameters is empty"),
    (lambda: SGD(nn.Linear(2, 2).weight, 0.1), TypeError, r"SGD: parameters must be "),
    (lambda: Adam(nn.Linear(2, 2).parameters(), lr="fast"), ValueError,
     r"Adam: lr must be a number of at least 0, got 'fast'"),
    (lambda: SGD(nn.Linear(2, 2).parameters(), 0.1, momentum="high"), (TypeError, ValueError),
     r"SGD: momentum must .* 'high'"),
    (lambda: ConfusionMatrix(4).update(TARGET, TARGET.astype(float)), TypeError,
     r"ConfusionMatrix.update: prediction must hold integer labels, got float64"),
    (lambda: ConfusionMatrix(4, void=3), ValueError, r"ConfusionMatrix: void is 3, which is one of"),
]  # fmt: skip


IDS = [f"{n} {sentence.lstrip('^').split(':')[0]}" for n, (_, _, sentence) in enumerate(CALLS)]


@pytest.mark.parametrize(("call", "error", "sentence"), CALLS, ids=IDS)
def test_bad_input_gets_a_sentence_before_anything_is_computed(call, error, sentence, monkeypatch):
    def compute(*_, **__):
        pytest.fail("the input was bad, and yet it was computed with")

    for contraction in ("slide", "spread", "overlap"):
        monkeypatch.setattr(Windows, contraction, compute)
    monkeypatch.setattr(pool, "resize", compute)
    monkeypatch.setattr(loss, "by_channel", compute)
    with pytest.raises(error, match=sentence):
        call()


def test_every_public_function_is_in_the_table():
    for name in F.__all__:
        assert any(name in call.__code__.co_names for call, _, _ in CALLS), name


# ---- what is refused leaves no trace -------------------------------------------------------------


def test_running_statistics_do_not_move_when_batch_norm_refuses():
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    for bad in ({"weight": np.ones(4)}, {"bias": np.ones((1, 3))}):
        with pytest.raises(ValueError, match="batch_norm: "):
            F.batch_norm(X, mean, var, training=True, **bad)
    with pytest.raises(ValueError, match="batch_norm: "):
        F.batch_norm(X[:1, :, 0, 0], mean, var, training=True)
    assert (mean.tolist(), var.tolist()) == ([0, 0, 0], [1, 1, 1])


def test_a_batch_that_a_layer_refuses_is_not_counted():
    for layer, x in ((nn.BatchNorm2d(4), X), (nn.BatchNorm2d(3), X[:1, :, :1, :1])):
        with pytest.raises(ValueError, match="batch_norm: "):
            layer(x)
        assert layer.num_batches_tracked == 0


def test_dropout_draws_nothing_before_it_refuses():
    rng = np.random.default_rng(5)
    for call in (lambda: F.dropout(X, -0.1, rng=rng), lambda: F.dropout([1.0], rng=rng)):
        with pytest.raises((TypeError, ValueError), match="dropout: "):
            call()
    assert rng.random() == np.random.default_rng(5).random()


def test_a_confusion_matrix_counts_no_pixel_of_a_batch_it_refuses():
    matrix = ConfusionMatrix(4)
    for target, prediction in (
        (TARGET, put(TARGET, (0, 2), 4)),
        (put(TARGET, (0, 2), 4), TARGET * 0),
        (TARGET, TARGET[:1]),
    ):
        with pytest.raises(ValueError, match=r"ConfusionMatrix\.update: "):
            matrix.update(target, prediction)
    assert matrix.counts.sum() == 0


def test_a_refused_tensor_op_notes_nothing_down():
    x, w = Tensor(X, requires_grad=True), Tensor(W, requires_grad=True)
    y = F.conv2d(x, w)
    with pytest.raises(ValueError, match="conv2d: "):
        F.conv2d(y, w)
    y.sum().backward()
    assert x.grad.shape == X.shape
    assert w.grad.tolist() == np.full(W.shape, 2 * 36).tolist()
