package translate

import (
	"regexp/syntax"
	"slices"
)

// maxProgram is half the size of a compiled expression that Envoy takes (istio: pkg/bootstrap/config.go, re2.max_program_size.error_level). One expression
// above that makes it refuse the whole route table of the sidecar, and what is computed here was too small in few of 50,000 random expressions, where Go
// joined alternatives that RE2 leaves: by 72 per cent at most.
const maxProgram = 32768 / 2

// programMargin is what RE2 adds around an expression, generously.
const programMargin = 64

// maxSteps bounds the work for one expression. What needs more is refused: its lists overlap so much that it is too large in any case.
const maxSteps = 64 * maxProgram

// programSize is the size of RE2's program for an expression, or a little more, from Go's: the two compile alike.
//
// What RE2 counts is the flattened program (re2/prog.cc, Prog::Flatten): for every place at which matching goes on after a character, the list of all that
// may come next. Lists share their common ends, but RE2 does not find all of those: a repeat of something that may be empty, in a repeat, can leave a list
// of everything behind every character, and an expression of twenty characters then needs hundreds of thousands of instructions.
func programSize(parsed *syntax.Regexp) (int, error) {
	keepRepeats(parsed)
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return 0, err
	}
	f := flattening{program: program, root: make([]bool, len(program.Inst)), seen: make([]int, len(program.Inst)), before: make([][]int, len(program.Inst))}
	f.root[program.Start] = true
	for id := range program.Inst {
		inst := &program.Inst[id]
		switch inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			f.before[inst.Out] = append(f.before[inst.Out], id)
			f.before[inst.Arg] = append(f.before[inst.Arg], id)
		case syntax.InstNop:
			f.before[inst.Out] = append(f.before[inst.Out], id)
		case syntax.InstMatch, syntax.InstFail:
		default:
			f.root[inst.Out] = true
		}
	}
	for id, root := range slices.Backward(slices.Clone(f.root)) { // those that the splitting adds are not split, nor is the start: RE2 leaves them too
		if root && id != program.Start {
			f.split(id)
		}
	}
	size := programMargin
	for id := range program.Inst {
		if !f.root[id] || f.steps > maxSteps {
			continue
		}
		for _, next := range f.list(id) {
			size += f.weight(id, next)
		}
	}
	if f.steps > maxSteps {
		return max(size, maxProgram+1), nil
	}
	return size, nil
}

// keepRepeats keeps Go from making (?s:a*)* a single repeat: RE2 does that only where the flags are the same.
func keepRepeats(parsed *syntax.Regexp) {
	for i, sub := range parsed.Sub {
		keepRepeats(sub)
		if repeats(parsed) && repeats(sub) && parsed.Flags != sub.Flags {
			parsed.Sub[i] = &syntax.Regexp{Op: syntax.OpConcat, Sub: []*syntax.Regexp{sub}}
		}
	}
}

func repeats(r *syntax.Regexp) bool {
	return r.Op == syntax.OpStar || r.Op == syntax.OpPlus || r.Op == syntax.OpQuest
}

// flattening are the lists of a program, each of which begins at a root.
type flattening struct {
	program *syntax.Prog
	root    []bool
	// before are the instructions that lead to one without a character.
	before [][]int

	seen   []int
	visits int
	steps  int
	found  []int
	stack  []int
}

// list returns what can be reached from a root without a character, as far as the next roots.
func (f *flattening) list(root int) []int {
	f.visits++
	f.found, f.stack = f.found[:0], append(f.stack[:0], root)
	for len(f.stack) > 0 && f.steps <= maxSteps {
		id := f.stack[len(f.stack)-1]
		f.stack = f.stack[:len(f.stack)-1]
		if f.seen[id] == f.visits {
			continue
		}
		f.steps++
		f.seen[id] = f.visits
		f.found = append(f.found, id)
		if id != root && f.root[id] {
			continue
		}
		switch inst := &f.program.Inst[id]; inst.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			f.stack = append(f.stack, int(inst.Arg), int(inst.Out))
		case syntax.InstNop:
			f.stack = append(f.stack, int(inst.Out))
		default: // the list ends with a character, an assertion, a group's border or the match
		}
	}
	return f.found
}

// split makes roots of what a list shares with others.
func (f *flattening) split(root int) {
	for _, id := range f.list(root) {
		if f.root[id] {
			continue
		}
		f.root[id] = slices.ContainsFunc(f.before[id], func(from int) bool { return f.seen[from] != f.visits })
	}
}

// weight is how many of RE2's instructions stand for one of Go's in a list: it works on bytes, and each range of them is one.
func (f *flattening) weight(root, id int) int {
	if id != root && f.root[id] {
		return 1 // a jump to that list
	}
	switch inst := &f.program.Inst[id]; inst.Op {
	case syntax.InstAlt, syntax.InstAltMatch, syntax.InstNop:
		return 0
	case syntax.InstRuneAnyNotNL:
		return 2
	case syntax.InstRune:
		ranges := 1
		for i := 2; i < len(inst.Rune) && inst.Rune[i] <= 0xff; i += 2 {
			ranges++
		}
		return ranges
	default:
		return 1
	}
}
