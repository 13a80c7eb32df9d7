"""From a policy to a suite of cases, and from a suite to how well a model follows the policy, rule by rule."""
