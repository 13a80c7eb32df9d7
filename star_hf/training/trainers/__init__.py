"""The trainings themselves, with TRL: SFT, DPO and GRPO."""
