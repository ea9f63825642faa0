"""The names of the arms of a comparison, and a line on each; no torch here."""

CHEAP = {
    "tfidf-lr-words": "logistic regression on TF-IDF of words and of pairs of words",
    "tfidf-lr-characters": "logistic regression on TF-IDF of up to 5 characters (tokens)",
    "lsa-lr": "logistic regression on 100 singular vectors of TF-IDF of words",
    "self-trained-lr": "tfidf-lr-characters, self-trained on the unlabelled rows",
    "nb-words": "naive Bayes of words",
    "nb-characters": "naive Bayes of up to 4 characters (tokens)",
    "nb-em-words": "nb-words with EM over the unlabelled rows",
    "nb-em-characters": "nb-characters with EM over the unlabelled rows",
}
SAME_ENCODER = {
    "supervised": "the SS-VAE's encoder of y, trained on the labels alone",
    "self-trained": "the same, then trained on its own predictions of the unlabelled rows",
    "pretrained": "the same, pretrained as a language model of all rows",
}
OURS = {
    "m2": "the SS-VAE of the papers: recurrent networks, no teacher and no n-grams",
    "teacher": "the pool of classifiers that q(y|x) starts from, alone",
    "ssvae": "the whole, as `train` trains it",
}
MEANINGS = CHEAP | SAME_ENCODER | OURS
