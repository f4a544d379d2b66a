"""What is wrong with a config: each check reads a draft and returns problems; nothing is loaded, sent or paid."""
