"""From a policy's suite to a model that follows it: find what fails, build data for that, train, and decide."""
