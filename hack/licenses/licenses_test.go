package main

import (
	"slices"
	"strings"
	"testing"
)

const mit = `MIT License

Copyright (c) 2026 Jane Doe

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
`

const affero = `This program is free software: you can redistribute it and/or modify
it under the terms of the GNU Affero General Public License as published by
the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU Affero General Public License for more details.

You should have received a copy of the GNU Affero General Public License
along with this program.  If not, see <https://www.gnu.org/licenses/>.
`

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		licences map[string][]byte
		want     string // part of the error, or nothing
	}{
		"an allowed licence":                     {licences: map[string][]byte{"LICENSE": []byte(mit)}},
		"no licence":                             {want: "example.com/m v1.0.0: no licence was found"},
		"a licence that asks for more":           {licences: map[string][]byte{"LICENSE": []byte(affero)}, want: "LICENSE holds the licence AGPL-3.0"},
		"one that asks for more, in a subfolder": {licences: map[string][]byte{"LICENSE": []byte(mit), "sub/COPYING": []byte(affero)}, want: "sub/COPYING holds"},
		"an allowed one with conditions added": {
			licences: map[string][]byte{"LICENSE": []byte(mit + strings.Repeat("You must also send the author a postcard from where you live. ", 20))},
			want:     "LICENSE is a known licence by",
		},
		"a licence of their own": {licences: map[string][]byte{"LICENSE": []byte("Do what you like with it, but not on Sundays.")}, want: "known licence by 0 % only"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &module{path: "example.com/m", version: "v1.0.0", licences: c.licences}
			err := m.judge()
			if c.want == "" && err != nil {
				t.Fatal(err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestShipped looks at the module around this one.
func TestShipped(t *testing.T) {
	linux, err := shipped("../..", []string{"linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if linux[0].path != standardLibrary || !slices.Equal(linux[0].ids(), []string{"BSD-3-Clause"}) {
		t.Errorf("the first module should be Go's standard library: %s, %v", linux[0].path, linux[0].ids())
	}
	at := slices.IndexFunc(linux, func(m *module) bool { return m.path == "k8s.io/apimachinery" })
	if at < 0 || linux[at].licences["LICENSE"] == nil || linux[at].licences["third_party/forked/golang/LICENSE"] == nil {
		t.Error("k8s.io/apimachinery should have its own licence and that of the code it forked")
	}
	both, err := shipped("../..", []string{"linux/amd64", "windows/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if len(both) <= len(linux) {
		t.Errorf("a binary for Windows has modules of its own, but %d are not more than %d", len(both), len(linux))
	}
	text := notices(both)
	for _, m := range both {
		if !strings.Contains(text, "\n"+strings.TrimSpace(m.path+" "+m.version)+" ") {
			t.Errorf("the notices leave %s out", m.path)
		}
	}
}
