"""Every option of TRL is honoured or refused with its reason: none is read and then ignored."""

import dataclasses

import pytest
import transformers
import trl
import yaml

from star_hf.errors import ConfigError
from star_hf.training.options import REFUSED, check_options
from star_hf.training.trainers import dpo, grpo, sft


HONOURED = {  # by TRL's trainers with our token ids, or by us
    "ModelConfig": """
        model_name_or_path model_revision dtype attn_implementation use_peft lora_r lora_alpha lora_dropout
        lora_target_modules lora_target_parameters lora_modules_to_save use_rslora use_dora bnb_4bit_quant_type
        use_bnb_nested_quant bnb_4bit_quant_storage
    """,
    "SFTConfig": """
        model_init_kwargs trust_remote_code router_aux_loss_coef chat_template_path dataset_num_proc eos_token
        max_length shuffle_dataset packing packing_strategy padding_free pad_to_multiple_of loss_type
        activation_offloading pad_token
    """,
    "DPOConfig": """
        model_init_kwargs trust_remote_code router_aux_loss_coef disable_dropout dataset_num_proc max_length
        padding_free pad_to_multiple_of precompute_ref_log_probs precompute_ref_batch_size loss_type loss_weights
        ld_alpha f_divergence_type f_alpha_divergence_coef label_smoothing beta use_weighting discopop_tau
        activation_offloading sync_ref_model ref_model_mixup_alpha ref_model_sync_steps pad_token
    """,
    "GRPOConfig": """
        beta cache_implementation cast_lm_head_to_fp32 chat_template_kwargs delta disable_dropout
        ds3_gather_for_generation
        entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min entropy_target epsilon epsilon_high
        generation_batch_size generation_kwargs importance_sampling_level log_completions log_completions_hub_repo
        log_unique_prompts loss_type mask_truncated_completions max_completion_length min_p model_init_kwargs
        num_completions_to_print num_generations num_iterations off_policy_mask_threshold pad_to_multiple_of
        ref_model_mixup_alpha ref_model_sync_steps repetition_penalty router_aux_loss_coef sapo_temperature_neg
        sapo_temperature_pos scale_rewards shuffle_dataset steps_per_generation sync_ref_model temperature
        top_entropy_quantile top_k top_p transformers_continuous_batching_config trust_remote_code
        use_adaptive_entropy use_bias_correction_kl use_transformers_continuous_batching use_transformers_paged
        use_vllm vespo_k_neg vespo_k_pos vespo_lambda_neg vespo_lambda_pos vllm_enable_sleep_mode
        vllm_gpu_memory_utilization vllm_group_port vllm_importance_sampling_cap vllm_importance_sampling_clip_max
        vllm_importance_sampling_clip_min vllm_importance_sampling_correction vllm_importance_sampling_mode
        vllm_max_model_length vllm_mode vllm_model_impl vllm_server_base_url vllm_server_host vllm_server_port
        vllm_server_timeout vllm_structured_outputs_regex vllm_tensor_parallel_size
    """,
}
OF_ALL_TRAININGS = {field.name for field in dataclasses.fields(transformers.TrainingArguments)}


@pytest.mark.parametrize("name", HONOURED)
def test_every_option_of_trl_is_sorted(name):
    options = {field.name for field in dataclasses.fields(getattr(trl, name))} - OF_ALL_TRAININGS
    assert options - set(REFUSED) == set(HONOURED[name].split())


def test_every_refused_option_exists():
    kinds = (trl.SFTConfig, trl.DPOConfig, trl.GRPOConfig, trl.ModelConfig)
    assert set(REFUSED) <= {field.name for kind in kinds for field in dataclasses.fields(kind)}


def recipe(folder, method=sft, **options):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(folder), "bf16": False, **options}))
    return method.parse(["--config", str(path)])


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("load_in_4bit", True, "adapters train on"),
        ("assistant_only_loss", True, "the labels are always"),
        ("completion_only_loss", True, "the labels are always"),
        ("completion_only_loss", False, "the labels are always"),
        ("eval_strategy", "epoch", "no evaluation split"),
        ("load_best_model_at_end", True, "no evaluation split"),
        ("use_liger_kernel", True, "use_kernels"),
        ("dataset_text_field", "messages", "`columns` of the data set"),
        ("truncation_mode", "keep_end", "rows are never cut"),
        ("label_smoothing_factor", 0.1, "loss_average"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused_with_its_reason(tmp_path, option, value, words):
    more = {"eval_strategy": "steps", "save_strategy": "steps"} if option == "load_best_model_at_end" else {}
    with pytest.raises(ConfigError, match=f"`{option}`: .*{words}"):
        check_options(recipe(tmp_path, **{option: value}, **more))


@pytest.mark.parametrize("method", [sft, dpo, grpo])
def test_the_defaults_of_trl_are_accepted(tmp_path, method):
    check_options(recipe(tmp_path, method))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("reward_weights", [0.5], "`form_weight`"),
        ("multi_objective_aggregation", "normalize_then_sum", "`form_weight`"),
        ("num_generations_eval", 4, "no evaluation split"),
        ("max_tool_calling_iterations", 3, "without tools"),
        ("log_multimodal", False, "without pictures"),
    ],
)
def test_what_reinforcement_learning_cannot_honour_is_refused(tmp_path, option, value, words):
    with pytest.raises(ConfigError, match=words):
        check_options(recipe(tmp_path, grpo, **{option: value}))


def test_all_wrong_options_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as refused:
        check_options(recipe(tmp_path, load_in_8bit=True, assistant_only_loss=True))
    assert "`load_in_8bit`" in str(refused.value) and "`assistant_only_loss`" in str(refused.value)
