"""The ONNX conformance suite: other people's inputs and other people's answers for our ops.

ONNX backend tests: one operator, its inputs, its expected outputs. Those of operators that minseg
has are run through onnx_adapter.py; those outside its reach are listed below with the reason.

Source: Open Neural Network Exchange, backend test suite (`onnx.backend.test`).
"""

import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from onnx_adapter import OPERATORS

onnx = pytest.importorskip("onnx", reason="the conformance cases come with onnx: pip install onnx")

KINDS = ("node", "pytorch-converted", "pytorch-operator")

SKIPPED = {
    "three spatial axes": (
        "test_averagepool_3d_default",
        "test_averagepool_3d_dilations_small",
        "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True",
        "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False",
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False",
        "test_convtranspose_3d",
        "test_maxpool_3d_default",
        "test_maxpool_3d_dilations",
        "test_maxpool_3d_dilations_use_ref_impl",
        "test_maxpool_3d_dilations_use_ref_impl_large",
        "test_AvgPool3d",
        "test_AvgPool3d_stride",
        "test_AvgPool3d_stride1_pad0_gpu_input",
        "test_Conv3d",
        "test_Conv3d_dilated",
        "test_Conv3d_dilated_strided",
        "test_Conv3d_groups",
        "test_Conv3d_no_bias",
        "test_Conv3d_stride",
        "test_Conv3d_stride_padding",
        "test_MaxPool3d",
        "test_MaxPool3d_stride",
        "test_MaxPool3d_stride_padding",
    ),
    "pad has constant values only, no edge, reflect or wrap": (
        "test_edge_pad",
        "test_reflect_pad",
        "test_wrap_pad",
        "test_ReflectionPad2d",
        "test_ReplicationPad2d",
        "test_operator_pad",
    ),
    "interpolate has no cubic mode": (
        "test_resize_downsample_scales_cubic",
        "test_resize_downsample_scales_cubic_A_n0p5_exclude_outside",
        "test_resize_downsample_scales_cubic_align_corners",
        "test_resize_downsample_scales_cubic_antialias",
        "test_resize_downsample_sizes_cubic",
        "test_resize_downsample_sizes_cubic_antialias",
        "test_resize_upsample_scales_cubic",
        "test_resize_upsample_scales_cubic_A_n0p5_exclude_outside",
        "test_resize_upsample_scales_cubic_align_corners",
        "test_resize_upsample_scales_cubic_asymmetric",
        "test_resize_upsample_sizes_cubic",
    ),
    "interpolate does not blur before it shrinks (antialias)": (
        "test_resize_downsample_scales_linear_antialias",
        "test_resize_downsample_sizes_linear_antialias",
    ),
    "interpolate does not crop (tf_crop_and_resize)": (
        "test_resize_tf_crop_and_resize",
        "test_resize_tf_crop_and_resize_axes_2_3",
        "test_resize_tf_crop_and_resize_axes_3_2",
        "test_resize_tf_crop_and_resize_extrapolation_value",
    ),
    "interpolate has no keep_aspect_ratio_policy": (
        "test_resize_downsample_sizes_nearest_not_larger",
        "test_resize_downsample_sizes_nearest_not_smaller",
        "test_resize_upsample_sizes_nearest_not_larger",
        "test_resize_upsample_sizes_nearest_not_smaller",
    ),
    "interpolate has no such coordinates or rounding": (
        "test_resize_downsample_scales_linear_half_pixel_symmetric",
        "test_resize_upsample_scales_linear_half_pixel_symmetric",
        "test_resize_upsample_sizes_nearest_ceil_half_pixel",
        "test_resize_upsample_sizes_nearest_round_prefer_ceil_asymmetric",
    ),
    "ONNX aligns the corners of 2.4 pixels (4 x 0.6), interpolate those of the 2 it makes": (
        "test_resize_downsample_scales_linear_align_corners",
    ),
}
REASONS = {name: reason for reason, names in SKIPPED.items() for name in names}

# How many cases of each operator passed when this table was written.
RUN_AT_LEAST = {
    "Conv": 26,
    "ConvTranspose": 13,
    "MaxPool": 21,
    "MaxUnpool": 2,
    "AveragePool": 16,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "Resize": 13,
    "Softmax": 10,
    "LogSoftmax": 10,
    "SoftmaxCrossEntropyLoss": 34,
    "NegativeLogLikelihoodLoss": 18,
    "BatchNormalization": 9,
    "Relu": 2,
    "LeakyRelu": 5,
    "Sigmoid": 3,
    "Tanh": 3,
    "Concat": 13,
    "Pad": 5,
}


class Case(NamedTuple):
    """One node: its inputs in order, None where left out, and the outputs it must give."""

    name: str
    operator: str
    attributes: dict
    inputs: list
    outputs: list
    rtol: float
    atol: float


def suite():
    """Every test of the suite with its model, as onnx has them."""
    from onnx.backend.test.loader import load_model_tests

    state = np.random.get_state()  # onnx seeds the global generator to make its inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # and overflows on purpose, in operators not tested here
        tests = [test for kind in KINDS for test in load_model_tests(kind=kind)]
    np.random.set_state(state)
    for test in sorted(tests, key=lambda test: test.name):
        yield test, test.model or onnx.load(Path(test.model_dir, "model.onnx"))


def arrays(folder, what):
    """input_0.pb, input_1.pb, ... of a test that is stored as files."""
    paths = sorted(folder.glob(f"{what}_*"))
    return [onnx.numpy_helper.to_array(onnx.load_tensor(path)) for path in paths]


def cases():
    """The tests that are a single node of an operator the adapter knows."""
    for test, model in suite():
        if len(model.graph.node) > 1 or model.graph.node[0].op_type not in OPERATORS:
            continue
        if test.data_sets:
            [(inputs, outputs)] = test.data_sets
        else:
            [folder] = Path(test.model_dir).glob("test_data_set_*")
            inputs, outputs = arrays(folder, "input"), arrays(folder, "output")
        [node] = model.graph.node
        constants = {x.name: onnx.numpy_helper.to_array(x) for x in model.graph.initializer}
        free = [x.name for x in model.graph.input if x.name not in constants]
        values = constants | dict(zip(free, inputs, strict=True))
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        yield Case(
            test.name,
            node.op_type,
            {key: v.decode() if isinstance(v, bytes) else v for key, v in attributes.items()},
            [values[name] if name else None for name in node.input],
            outputs,
            test.rtol,
            test.atol,
        )


def check(case):
    """The outputs are the expected ones in shape, in type and, within tolerance, in value."""
    outputs = OPERATORS[case.operator](*case.inputs, **case.attributes)
    assert len(outputs) >= len(case.outputs)
    for y, expected in zip(outputs, case.outputs, strict=False):
        assert y.shape == expected.shape
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=case.rtol, atol=case.atol)


CASES = list(cases())
PARAMETERS = [
    pytest.param(
        case,
        id=case.name,
        marks=[pytest.mark.skip(reason=REASONS[case.name])] if case.name in REASONS else [],
    )
    for case in CASES
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_onnx_case(case):
    check(case)


def test_every_case_of_our_operators_is_either_run_or_listed_with_a_reason():
    suite_names = [
        test.name
        for test, model in suite()
        if [node.op_type for node in model.graph.node] in [[name] for name in RUN_AT_LEAST]
    ]
    run = [parameter.id for parameter in PARAMETERS if not parameter.marks]
    skipped = [parameter.id for parameter in PARAMETERS if parameter.marks]
    assert sorted(run + skipped) == sorted(suite_names)
    assert len(set(suite_names)) == len(suite_names)


def test_every_listed_case_still_exists_and_is_listed_once():
    listed = [name for names in SKIPPED.values() for name in names]
    assert sorted(listed) == sorted(case.name for case in CASES if case.name in REASONS)


def test_no_fewer_cases_are_run_than_ever_passed():
    run = Counter(case.operator for case in CASES if case.name not in REASONS)
    assert run.keys() == RUN_AT_LEAST.keys()
    assert {name: count for name, count in run.items() if count < RUN_AT_LEAST[name]} == {}


def reproduced(case):
    try:
        check(case)
    except (AssertionError, NotImplementedError, TypeError, ValueError):
        return False
    return True


def test_no_case_is_listed_that_would_pass():
    assert [case.name for case in CASES if case.name in REASONS and reproduced(case)] == []
