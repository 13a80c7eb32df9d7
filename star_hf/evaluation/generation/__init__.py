"""Who answers: a model behind an endpoint or in this process, and what counts as an answer."""
