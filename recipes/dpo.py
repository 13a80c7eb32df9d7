# /// script
# requires-python = ">=3.11"
# dependencies = ["star_hf[train,report]"]
# ///
"""Train a model on pairs of responses with high and low marks (DPO, arXiv:2305.18290).

    accelerate launch --config_file recipes/accelerate_configs/zero3.yaml recipes/dpo.py \
        --config recipes/DeepSeek-R1-Distill-Qwen-7B/dpo/config_star1.yaml

Every line of the recipe can be replaced on the command line. `--push_to_hub` publishes as in `recipes/sft.py`.
"""

from star_hf.hub.model_release import publish_as_asked
from star_hf.training.trainers.dpo import parse, train
from star_hf.training.trainers.session import start


if __name__ == "__main__":
    publish_as_asked(start(parse, train).training)
