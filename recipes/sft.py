# /// script
# requires-python = ">=3.11"
# dependencies = ["star_hf[train,report]"]
# ///
"""Fine-tune a model on safety-reasoning data (paper, Section 3).

    accelerate launch --config_file recipes/accelerate_configs/zero3.yaml recipes/sft.py \
        --config recipes/DeepSeek-R1-Distill-Qwen-7B/sft/config_star1.yaml

Every line of the recipe can be replaced on the command line: `--learning_rate 5e-6`.
"""

from star_hf.training.sft import main


if __name__ == "__main__":
    main()
