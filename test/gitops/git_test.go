package gitops_test

import (
	"errors"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is a working copy of a repository that this process serves over HTTP.
type repository struct {
	folder string
	url    string
	path   string // of programs that the check of a pull request calls
}

func newRepository(t *testing.T, path string) *repository {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	served := t.TempDir()
	server := httptest.NewServer(&cgi.Handler{
		Path: git,
		Args: []string{"http-backend"},
		Env:  []string{"GIT_PROJECT_ROOT=" + served, "GIT_HTTP_EXPORT_ALL=1"},
	})
	t.Cleanup(server.Close)
	r := &repository{folder: t.TempDir(), url: server.URL + "/deploy.git", path: path}
	r.git(t, "init", "--quiet", "--bare", "--initial-branch=main", filepath.Join(served, "deploy.git"))
	r.git(t, "init", "--quiet", "--initial-branch=main")
	r.git(t, "remote", "add", "origin", filepath.Join(served, "deploy.git"))
	return r
}

// git runs git in the working copy, and returns what it prints.
func (r *repository) git(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "git", args...)
	command.Dir = r.folder
	command.Env = append(os.Environ(), "GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, output)
	}
	return strings.TrimSpace(string(output))
}

// write creates or replaces a file of the working copy. Without content, it deletes the file.
func (r *repository) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(r.folder, name)
	if content == "" {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(content, "#!") {
		mode = 0o755
	}
	if err := os.WriteFile(file, []byte(content), mode); err != nil { //nolint:gosec // a script must be executable
		t.Fatal(err)
	}
}

// commit commits all of the working copy.
func (r *repository) commit(t *testing.T) {
	t.Helper()
	r.git(t, "add", "--all")
	r.git(t, "commit", "--quiet", "--message=change")
}

// merge makes the commit of the working copy the head of main, and returns it.
func (r *repository) merge(t *testing.T) string {
	t.Helper()
	r.git(t, "push", "--quiet", "origin", "HEAD:main")
	return r.git(t, "rev-parse", "HEAD")
}

// check runs the check of a pull request against main with an environment variable, and returns its exit code and what it prints.
func (r *repository) check(t *testing.T, environment string) (code int, output string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "./check-routes.sh", "origin/main")
	command.Dir = r.folder
	command.Env = append(os.Environ(), "PATH="+r.path+string(os.PathListSeparator)+os.Getenv("PATH"), environment)
	printed, err := command.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), string(printed)
}
