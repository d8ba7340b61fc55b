import torch

from reappear.train.patches import adjacent_patches, locate_patches, patch_grid


def test_grid_goes_row_by_row() -> None:
    expected = torch.tensor([[0, 0, 0.5, 0.25], [0.5, 0, 1, 0.25], [0, 0.25, 0.5, 0.5], [0.5, 0.25, 1, 0.5]])
    torch.testing.assert_close(patch_grid(4, 2)[:4], expected)
    torch.testing.assert_close(patch_grid(4, 1)[-1], torch.tensor([0, 0.75, 1, 1]))


def test_adjacent_patches_share_an_edge() -> None:
    assert adjacent_patches(4, 1).tolist() == [[abs(a - b) == 1 for b in range(4)] for a in range(4)]
    assert adjacent_patches(2, 2).sum(1).tolist() == [2, 2, 2, 2]


def test_a_view_of_the_whole_image_has_the_patches_where_they_are() -> None:
    grid = patch_grid(4, 2)
    whole = torch.tensor([[0.0, 0, 1, 1]]).expand(2, 4)
    boxes, visible = locate_patches(grid, whole, torch.tensor([False, True]))
    torch.testing.assert_close(boxes[0], grid)
    torch.testing.assert_close(boxes[1], grid[[1, 0, 3, 2, 5, 4, 7, 6]])  # mirrored: left and right change places
    torch.testing.assert_close(visible, torch.ones(2, 8))


def test_parts_of_patches_that_a_crop_shows() -> None:
    boxes, visible = locate_patches(patch_grid(4, 1), torch.tensor([[0.5, 0.25, 1, 0.875]]), torch.tensor([False]))
    torch.testing.assert_close(visible, torch.tensor([[0, 0.5, 0.5, 0.25]]))
    torch.testing.assert_close(boxes[0, 1:], torch.tensor([[0, 0, 1, 0.4], [0, 0.4, 1, 0.8], [0, 0.8, 1, 1]]))
    assert boxes.min() >= 0
    assert boxes.max() <= 1
