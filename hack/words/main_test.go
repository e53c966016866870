package main

import (
	"slices"
	"testing"
	"testing/fstest"
)

const page = "| term | means | not |\n|---|---|---|\n| sign | a mark | ~~red flag~~, ~~omen~~ |\n"

func TestSearch(t *testing.T) {
	tests := map[string]struct {
		text string
		want []hit
	}{
		"a phrase is found with its line":                        {"first\nA red flag.\n", []hit{{"file", 2, "red flag"}}},
		"case does not matter":                                   {"An OMEN", []hit{{"file", 1, "OMEN"}}},
		"a phrase that goes on in the next line is found":        {"this is a red\nflag", []hit{{"file", 1, "red flag"}}},
		"a comment that goes on in the next line is found":       {"\t// a red\n\t// flag", []hit{{"file", 1, "red flag"}}},
		"every hit is reported":                                  {"omen\n# red flag", []hit{{"file", 1, "omen"}, {"file", 2, "red flag"}}},
		"a phrase that is struck out is a quotation":             {page, nil},
		"a part of a longer word is no hit":                      {"omens, women, red flags", nil},
		"the words of a phrase in another order are no hit":      {"the flag is red", nil},
		"the words of a phrase with others between are no hit":   {"a red and white flag", nil},
		"a file that is not text is not read":                    {"omen\x00", nil},
		"an empty line ends a sentence, and so ends each phrase": {"red\n\nflag", nil},
	}
	forbidden, err := compile(page)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{"file": {Data: []byte(test.text)}}
			got, err := search(root, []string{"deleted", "file"}, forbidden)
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("got %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

func TestAGlossaryWithoutPhrasesIsAnError(t *testing.T) {
	if _, err := compile("# Glossary\n"); err == nil {
		t.Error("got no error: the check would pass whatever the files say")
	}
}
