# SPDX-License-Identifier: Apache-2.0
"""The hourglass family: structure, supervision of every stack, training, export."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip('torch')

from torch.utils.flop_counter import FlopCounterMode

from rmpe_ros.networks.backbones.hourglass import Hourglass, HourglassSppe, Residual
from rmpe_ros.networks.backbones.lite_hrnet import LiteHrnetSppe
from rmpe_ros.networks.backbones.resnet import ResNet18
from rmpe_ros.networks.export import export_pose, random_crops
from rmpe_ros.networks.sstn_sppe import SstnSppe, normalise_crops
from rmpe_ros.networks.stn import ResNetLocalisation
from rmpe_ros.training.pose_losses import sppe_loss, sstn_loss
from rmpe_ros.training.pose_training import (
    POSE_MODELS,
    build_pose_network,
    freeze_encoder,
    load_sppe,
)

SIZE = (64, 64)


@pytest.fixture(autouse=True)
def without_onednn():
    """The tests' maps are tiny, down to one pixel, and on CPUs that have AVX2 and no more the
    oneDNN in PyTorch 2.13 writes beyond the buffers of such convolutions' gradients: the process
    aborts. With ONEDNN_MAX_CPU_ISA=AVX, or without oneDNN, it does not.
    """
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def tiny_sppe(stacks: int = 2, channels: int = 16, order: int = 4) -> HourglassSppe:
    torch.manual_seed(0)
    return HourglassSppe(19, stacks=stacks, channels=channels, order=order)


def tiny_paper() -> SstnSppe:
    """The paper's network in small."""
    return SstnSppe(tiny_sppe(), SIZE, localisation=lambda size: ResNetLocalisation(4))


def parameter_count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def training_batch(count: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    joints = 8 + torch.rand(count, 19, 2, generator=generator) * 48
    return {
        # Smooth: noise by heart is lost with the first tenth of a pixel that the STN shifts it.
        'crops': random_crops(tiny_paper(), count),
        'joints': joints,
        'weights': torch.ones(count, 19),
        'centred': joints * 0.8 + 6,
        'centred_weights': torch.ones(count, 19),
    }


def train(network: SstnSppe, loss, steps: int, rate: float = 1e-3) -> list[float]:
    batch = training_batch()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], rate)
    losses = []
    for _ in range(steps):
        network.train()
        value = loss(network, batch)['loss']
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


# What the published networks are.


@pytest.mark.parametrize(
    ('network', 'millions', 'tolerance'),
    [
        # 16 joints of MPII. HRNet's Table 1 says 25.1 M for 8 stacks; ports with a wider stem and
        # biases before batch norm have 25.59 M, and 6.73 M for 2.
        (lambda: HourglassSppe(16, stacks=8), 25.4, 0.02),
        (lambda: HourglassSppe(16, stacks=2), 6.6, 0.03),
        # ResNet-18 has 11,689,512 with its classifier of 512 × 1000 + 1000.
        (ResNet18, 11.176512, 1e-9),
    ],
)
def test_as_many_parameters_as_published(network, millions, tolerance):
    with torch.device('meta'):
        assert parameter_count(network()) / 1e6 == pytest.approx(millions, rel=tolerance)


@pytest.mark.parametrize(
    ('name', 'stacks', 'cells', 'least', 'most'),
    [
        ('base', 2, (64, 48), 4e9, 8e9),
        ('paper-parallel', 4, (64, 64), 13e9, 16e9),
        # The 8 stacks and a ResNet-18 of 2.4 GMAC; mmpose gives 28.7 GMAC for Hourglass-52.
        ('paper', 8, (64, 64), 27e9, 32e9),
    ],
)
def test_the_registered_models(name, stacks, cells, least, most):
    with torch.device('meta'):
        network = build_pose_network(name, sstn=True).eval()
        crops = torch.zeros(2, 3, *network.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = network(crops)
    assert [logits.shape for logits in output.logits] == [(2, 19, *cells)] * stacks
    assert isinstance(network.localisation, ResNetLocalisation) == (name == 'paper')
    assert least < counter.get_total_flops() / 2 / 2 < most  # two crops, and two a multiply-add


def test_the_localisation_network_of_the_paper_costs_what_a_resnet18_costs():
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
        features = ResNet18()(torch.zeros(1, 3, 224, 224))
    assert features.shape == (1, 512, 7, 7)
    assert counter.get_total_flops() / 2 == pytest.approx(1.81e9, rel=0.01)


def test_the_way_up_mirrors_the_way_down():
    """Of order n: n residuals down, n up, n around and one at the bottom, on maps of each size."""
    network = Hourglass(4, 8)
    sizes = []
    for module in network.modules():
        if isinstance(module, Residual):
            module.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[2]))
    out = network(torch.rand(1, 8, 32, 16))
    assert out.shape == (1, 8, 32, 16)
    around, down, bottom = [32, 16, 8, 4], [16, 8, 4, 2], [2]
    assert sorted(sizes) == sorted(around + down + bottom + down)
    assert sizes[-4:] == [2, 4, 8, 16]


# What one sees where.


@pytest.mark.parametrize(('order', 'everywhere'), [(4, True), (1, False)])
def test_every_heatmap_cell_sees_the_whole_crop(order, everywhere):
    network = tiny_sppe(1, order=order).double().eval()
    crops = torch.rand(1, 3, 128, 64, dtype=torch.float64)
    changed = crops.clone()
    changed[..., -1, -1] += 1
    with torch.no_grad():
        difference = (network(changed)[0] - network(crops)[0]).abs().amax(1)
    assert bool((difference > 0).all()) == everywhere


def test_later_stacks_look_again_at_features_and_heatmaps():
    network = tiny_sppe(2).eval()
    crops = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        before = network(crops)
        network.stacks[0].logits.bias += torch.linspace(-1, 1, 19)
        by_heatmaps = network(crops)
        network.remerges[0].features.weight.zero_()
        by_features = network(crops)
    assert not torch.allclose(by_heatmaps[1], before[1], atol=1e-4)
    assert torch.equal(by_features[0], by_heatmaps[0])
    assert not torch.allclose(by_features[1], by_heatmaps[1], atol=1e-4)


def test_each_stage_teaches_its_own_stack_and_those_before():
    network = tiny_sppe(3)
    for stage in range(3):
        network.zero_grad(set_to_none=True)
        network(torch.rand(2, 3, *SIZE))[stage].logsumexp((2, 3)).sum().backward()
        for number, stack in enumerate(network.stacks):
            learning = [p.grad is not None and bool(p.grad.any()) for p in stack.parameters()]
            # Of an earlier stack's heatmaps, too, by way of the remerge.
            assert all(learning) if number <= stage else not any(learning)


def test_the_loss_is_the_sum_of_the_stages():
    network = SstnSppe(tiny_sppe(2), SIZE, sstn=False).eval()
    batch = training_batch()
    both = sppe_loss(network, batch)['loss'].item()
    maps = network.sppe.forward
    alone = []
    for stage in range(2):
        network.sppe.forward = lambda x, stage=stage: [maps(x)[stage]]
        alone.append(sppe_loss(network, batch)['loss'].item())
    assert both == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize('size', [(224, 160), (256, 200), (64, 32)])
def test_crops_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match=rf'{size[0]}×{size[1]}.*multiples of 64'):
        tiny_sppe(1)(torch.zeros(1, 3, *size))


# The whole of SSTN-SPPE.


def test_sppe_then_sstn_learn_four_crops_by_heart():
    network = tiny_paper()
    # Two stacks that know nothing have 2 ln 256 = 11.1 nats, perfect ones the 7.3 of the targets.
    losses = train(network, sppe_loss, 30, 1e-2)
    assert losses[0] > 11 and losses[-1] < 9.5
    network.attach_parallel()
    losses = train(network, sstn_loss, 20)
    assert losses[-1] < losses[0] - 0.15
    theta = network.eval()(normalise_crops(training_batch()['crops'])).theta
    assert (theta - torch.eye(2, 3)).abs().max() > 0.001


@pytest.mark.parametrize('other', [None, 1])
def test_a_parallel_hourglass_stays_bit_identical(other):
    """Weights, and the running statistics of batch norm, of a copy and of a smaller SPPE."""
    network = tiny_paper()
    sppe = tiny_sppe(other) if other else None
    network.attach_parallel(sppe)
    assert len(network.parallel.sppe.stacks) == (other or 2)
    before = copy.deepcopy(network.state_dict())
    train(network, sstn_loss, 3)
    after = network.state_dict()
    frozen = [name for name in after if name.startswith('parallel.')]
    assert any(name.endswith('running_var') for name in frozen)
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert {'sppe.stem.1.running_mean', 'localisation.features.bn1.running_var'} <= moved
    if sppe is not None:  # what was given is not the branch's, and may be used elsewhere
        assert all(parameter.requires_grad for parameter in sppe.parameters())


def test_a_parallel_sppe_of_another_family_teaches_theta():
    network = tiny_paper().train()
    network.attach_parallel(LiteHrnetSppe(19, width=8))
    values = sstn_loss(network, training_batch())
    (values['loss'] - values['main']).backward()
    assert values['parallel'].item() > 0
    assert all(p.grad is None for p in network.parallel.parameters())
    output = network(torch.rand(2, 3, *SIZE) * 2 - 1)
    network.zero_grad()
    output.parallel.logsumexp((2, 3)).sum().backward()
    assert network.localisation.theta.weight.grad.abs().max() > 0
    assert all(p.grad is None or not p.grad.any() for p in network.sppe.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float32])
def test_channels_last_and_mixed_precision_train_alike(dtype):
    network = tiny_paper()
    network.attach_parallel()
    batch = training_batch()
    expected = sstn_loss(copy.deepcopy(network).train(), batch)
    network.to(memory_format=torch.channels_last).train()
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = network(normalise_crops(batch['crops']))
        values = sstn_loss(network, batch)
    assert all(logits.dtype == dtype for logits in output.logits)
    assert output.theta.dtype == torch.float32
    values['loss'].backward()
    for name in ('main', 'parallel'):
        assert values[name].item() == pytest.approx(
            expected[name].item(), rel=0.02 if dtype == torch.bfloat16 else 1e-4
        )
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_exported_with_parity_and_a_dynamic_batch(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxsim')
    network = tiny_paper().train()
    for _ in range(3):  # statistics of batch norm other than those at the start
        with torch.no_grad():
            network(normalise_crops(random_crops(network, 4)))
    torch.nn.init.normal_(network.localisation.theta.weight, std=0.1)
    path = tmp_path / 'tiny.onnx'
    metadata = {'rmpe.name': 'tiny', 'rmpe.version': '1'}
    parity = export_pose(network.eval(), path, calibration=(1.0, 0.0), metadata=metadata)
    assert parity.largest <= 1e-3
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    crops = random_crops(network, 3).numpy()
    keypoints, theta = session.run(None, {'crops': crops})
    assert keypoints.shape == (3, 19, 3) and theta.shape == (3, 2, 3)
    assert np.abs(theta - np.eye(2, 3)).max() > 0.01
    one = session.run(None, {'crops': crops[:1]})
    assert np.abs(one[0] - keypoints[:1]).max() < 1e-3


# What one asks for by name.


def test_tinypose_does_not_start_an_hourglass(tmp_path):
    with pytest.raises(ValueError, match=r"'base' cannot start from .*tinypose\.onnx"):
        build_pose_network('base', sstn=False, pretrained=tmp_path / 'tinypose.onnx')


def test_an_hourglass_has_no_encoder_to_freeze():
    with pytest.raises(ValueError, match='--frozen-blocks'):
        freeze_encoder(tiny_paper(), 3)
    network = SstnSppe(LiteHrnetSppe(19, width=8), SIZE)
    freeze_encoder(network, 2)
    frozen = network.sppe.encoder.stages[0].parameters()
    assert not any(parameter.requires_grad for parameter in frozen)


def test_a_trained_sppe_is_known_by_its_weights(tmp_path):
    trained = SstnSppe(POSE_MODELS['lite'].sppe(), (192, 128))
    torch.save({'ema': trained.state_dict()}, tmp_path / 'lite.pt')
    found = load_sppe(tmp_path / 'lite.pt')
    assert isinstance(found, LiteHrnetSppe)
    expected = trained.sppe.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in found.state_dict().items())
    network = tiny_paper()
    network.attach_parallel(found)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'nonsense', 'is damaged or no checkpoint'),
        ({'network': {}}, 'is no checkpoint'),
        ({'ema': {}}, 'is no checkpoint'),
        ({'ema': {'sppe.stem.0.weight': torch.zeros(3)}}, 'holds no pose network'),
    ],
)
def test_what_is_no_trained_sppe_is_refused(tmp_path, content, message):
    path = tmp_path / 'checkpoint.pt'
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=rf'checkpoint\.pt {message}'):
        load_sppe(path)
