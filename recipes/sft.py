# /// script
# requires-python = ">=3.11"
# dependencies = ["star_hf[train,report]"]
# ///
"""Fine-tune a model on safety-reasoning data (paper, Section 3).

    accelerate launch --config_file recipes/accelerate_configs/zero3.yaml recipes/sft.py \
        --config recipes/DeepSeek-R1-Distill-Qwen-7B/sft/config_star1.yaml

Every line of the recipe can be replaced on the command line: `--learning_rate 5e-6`. With `--push_to_hub true` the
model is published at the end as `star-hf publish model` does it, card included; private unless
`--hub_private_repo false`.
"""

from star_hf.hub.model_release import publish_as_asked
from star_hf.training.trainers.session import start
from star_hf.training.trainers.sft import parse, train


if __name__ == "__main__":
    publish_as_asked(start(parse, train).training)
