import torch
from torch.nn import functional as F

from reappear.methods.transreid.settings import TransReidSettings
from reappear.methods.transreid.task import TransReid

from .setups import make_setup


def test_loss_is_the_sum_of_both_on_the_features_around_the_neck() -> None:
    task = TransReid(make_setup(TransReidSettings(label_smoothing=0.1, margin=0.3)))
    batch = task.phase(0, None).data[0]
    student = task.student
    features = student.pooled(batch.images.flatten(0, 1))
    identity = batch.identity.repeat_interleave(4)
    normalised = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    expected = F.cross_entropy(normalised @ student.head.classifier.weight.T, identity, label_smoothing=0.1)
    distance = torch.cdist(features, features)
    for i in range(len(identity)):
        positive = distance[i][identity == identity[i]].max()
        negative = distance[i][identity != identity[i]].min()
        expected = expected + F.relu(0.3 + positive - negative) / len(identity)
    torch.testing.assert_close(task.training_step(batch, 0).loss, expected)


def test_a_step_has_p_identities_with_k_images_and_classes_have_no_gaps() -> None:
    setup = make_setup(TransReidSettings())
    setup.table.identity[:] = setup.table.identity * 7 + 3
    batch = TransReid(setup).phase(0, None).data[0]
    assert batch.images.shape[:2] == (6, 4)
    assert sorted(batch.identity.tolist()) == [0, 1, 2, 3, 4, 5]


def test_all_decays_and_biases_learn_twice_as_fast() -> None:
    task = TransReid(make_setup(TransReidSettings()))
    weights, biases = task.parameter_groups()
    assert (weights.decays, weights.lr_scale, biases.decays, biases.lr_scale) == (True, 1.0, True, 2.0)
    named = {id(p): name for name, p in task.student.named_parameters()}
    assert all(named[id(p)].endswith(".bias") for p in biases.parameters)
    assert id(task.student.head.neck.bias) not in {id(p) for p in (*weights.parameters, *biases.parameters)}


def test_the_saved_vector_is_the_feature_before_the_neck() -> None:
    task = TransReid(make_setup(TransReidSettings()))
    embedder = task.export("student")
    assert embedder.neck is task.student.head.neck
    image = torch.zeros(1, 3, 16, 8, dtype=torch.uint8)
    task.student.eval()
    vector = torch.from_numpy(embedder([image[0].permute(1, 2, 0).numpy()]))
    torch.testing.assert_close(vector, task.student.pooled(image).detach())
