package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// licence is the file that krew's index requires in each archive.
const licence = "LICENSE"

// checkArchive compares what a platform says with the archive of its name.
func checkArchive(folder string, p platform) error {
	name := path.Base(p.URI)
	content, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(content)); sum != p.Sha256 {
		return fmt.Errorf("sha256 is %s, and that of %s is %s", p.Sha256, name, sum)
	}
	files, err := filesIn(name, content)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	for _, file := range []string{p.Bin, licence} {
		if !slices.Contains(files, file) {
			return fmt.Errorf("%s has no file %s", name, file)
		}
	}
	return nil
}

// filesIn are the names of the files in an archive of a form that krew unpacks.
func filesIn(name string, content []byte) (files []string, err error) {
	switch {
	case strings.HasSuffix(name, ".zip"):
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			return nil, err
		}
		for _, file := range archive.File {
			files = append(files, file.Name)
		}
		return files, nil
	case strings.HasSuffix(name, ".tar.gz"):
		unzipped, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil, err
		}
		for archive := tar.NewReader(unzipped); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				return files, nil
			}
			if err != nil {
				return nil, err
			}
			files = append(files, header.Name)
		}
	}
	return nil, errors.New("must be .tar.gz or .zip")
}
