"""What is checked of the data before anything is trained."""

from experiments.jobs import job_data
from tests.experiments.command_line import plan
from tests.experiments.counting import count_calls


def test_a_data_set_is_read_once_and_a_network_built_once_for_all_jobs_that_have_it(monkeypatch):
    job_data.cached_data.cache_clear()
    read = count_calls(monkeypatch, job_data, "load_data")
    built = count_calls(monkeypatch, job_data, "job_site_shapes")
    jobs = plan("-m", "recipe.lr=0.1,0.2,0.3", "data=digits,gaussian", "model.width=4,8").jobs
    job_data.check_data(jobs)
    assert (len(jobs), read.total(), built.total()) == (12, 2, 4)
