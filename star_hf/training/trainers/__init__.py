"""The trainings themselves, with TRL: SFT, DPO and GRPO."""

from ...utils.extras import require


require("train", "torch", "transformers", "trl", "peft", "accelerate", what="Training")
