package evidence

import (
	"archive/zip"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/guardbook/guardbook/evidence/layout"
)

// folder writes the files of a package below a directory and remembers size and
// hash of each for the manifest.
type folder struct {
	root  *os.Root
	files map[string]*layout.File
}

func newFolder(dir string) (*folder, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create package: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("create package: %w", err)
	}
	return &folder{root: root, files: map[string]*layout.File{}}, nil
}

// Create begins a file. It is part of the package once it is closed.
func (f *folder) Create(name string) (io.WriteCloser, error) {
	if !layout.SafeName(name) {
		return nil, fmt.Errorf("create %q: that is no name for a file of a package", name)
	}
	if f.files[name] != nil {
		return nil, fmt.Errorf("create %s: it is there already", name)
	}
	if err := f.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	w, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return &outFile{folder: f, name: name, w: w, sum: sha256.New()}, nil
}

type outFile struct {
	folder *folder
	name   string
	w      *os.File
	sum    hash.Hash
	size   int64
}

func (o *outFile) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	o.sum.Write(b[:n])
	o.size += int64(n)
	return n, err
}

func (o *outFile) Close() error {
	if err := o.w.Close(); err != nil {
		return fmt.Errorf("write %s: %w", o.name, err)
	}
	o.folder.files[o.name] = &layout.File{Name: o.name, Size: o.size, SHA256: hex.EncodeToString(o.sum.Sum(nil))}
	return nil
}

// put writes a whole file.
func (f *folder) put(name string, content []byte) error {
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		w.Close()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return w.Close()
}

// put JSON writes a description.
func (f *folder) describe(name string, v any) error {
	b, err := layout.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.put(name, b)
}

// seal writes manifest, sums and signature: the package is complete.
func (f *folder) seal(pkg string, key Key) (manifestHash string, err error) {
	m := layout.ManifestFile{Format: layout.Format, Package: pkg}
	for _, file := range f.files {
		m.Files = append(m.Files, *file)
	}
	slices.SortFunc(m.Files, func(a, b layout.File) int { return strings.Compare(a.Name, b.Name) })
	b, err := layout.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	signed, err := key.Sign(layout.ManifestNote(pkg, b))
	if err != nil {
		return "", fmt.Errorf("sign manifest: %w", err)
	}
	var sums strings.Builder
	for _, file := range m.Files {
		fmt.Fprintf(&sums, "%s  %s\n", file.SHA256, file.Name)
	}
	sum := sha256.Sum256(b)
	manifestHash = hex.EncodeToString(sum[:])
	fmt.Fprintf(&sums, "%s  %s\n", manifestHash, layout.Manifest)
	for _, file := range []struct {
		name    string
		content []byte
	}{{layout.Manifest, b}, {layout.Sums, []byte(sums.String())}, {layout.Signature, signed}} {
		if err := f.put(file.name, file.content); err != nil {
			return "", err
		}
	}
	return manifestHash, nil
}

// zipTime is the time of every file in a zip: the earliest that the format can say.
var zipTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// WriteZip writes a package's folder as a zip, under the package's name. The same
// folder gives the same bytes.
func WriteZip(ctx context.Context, dir, name string, w io.Writer) error {
	var names []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no plain file", p)
		}
		rel, err := filepath.Rel(dir, p)
		names = append(names, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return fmt.Errorf("zip package: %w", err)
	}
	slices.Sort(names)
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.DefaultCompression) })
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := addZip(z, filepath.Join(dir, filepath.FromSlash(n)), name+"/"+n); err != nil {
			return fmt.Errorf("zip package: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("zip package: %w", err)
	}
	return nil
}

func addZip(z *zip.Writer, from, name string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: zipTime}
	h.SetMode(0o644)
	out, err := z.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}
